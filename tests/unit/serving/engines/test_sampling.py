"""Sampling draws exactly the tokens that may be drawn, each with its probability."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from serving.engines.contract import Logits, Sampling
from serving.engines.sampling import NotFinite, Sampler, Weights
from serving.engines.sampling import candidates as candidates_or_all


def row(*logits: float) -> Logits:
    return np.array(logits, dtype=np.float32)


def candidates(logits: Logits, sampling: Sampling) -> tuple[list[int], Weights]:
    ids, weights = candidates_or_all(logits, sampling)
    return list(range(len(logits))) if ids is None else ids.tolist(), weights


def naive(logits: Sequence[float], sampling: Sampling) -> dict[int, float]:
    """Return the tokens that may be drawn and their probabilities by the definition: everything sorted and summed exactly."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: sampling.top_k or None]
    weights = {i: math.exp((logits[i] - logits[order[0]]) / sampling.temperature) for i in order}
    goal, kept = sampling.top_p * math.fsum(weights.values()), 1
    if sampling.top_p == 1:
        kept = len(order)
    while kept < len(order) and math.fsum(weights[i] for i in order[:kept]) < goal:
        kept += 1
    whole = math.fsum(weights[i] for i in order[:kept])
    return {i: weights[i] / whole for i in sorted(order[:kept])}


# Few different values, so that many are equal; some tokens are impossible.
logits_with_ties = st.lists(st.sampled_from([-math.inf, -3.0, -0.5, 0.0, 0.25, 2.0]), min_size=1, max_size=40)
logits_of_any_kind = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40)
samplings = st.builds(Sampling, st.floats(0.05, 5), st.floats(0.01, 1), st.integers(0, 50), st.integers(0, 2**32))


@settings(max_examples=200)
@given(logits_with_ties | logits_of_any_kind, samplings)
@example([0.0] * 5, Sampling(top_p=0.4))
@example([1.0] * 1500, Sampling(top_p=0.9, temperature=2.0))
@example([1.0] * 1500, Sampling(top_k=1300, top_p=0.999))
def test_the_candidates_are_those_of_the_definition(logits: list[float], sampling: Sampling) -> None:
    assume(max(logits) > -math.inf)
    expected = naive(logits, sampling)
    ids, weights = candidates(row(*logits), sampling)
    if ids != list(expected):  # rounding may add or remove a token at the border of the share
        assume(not _rounding_decides(logits, sampling))
    assert ids == list(expected)
    assert weights / weights.sum(dtype=np.float64) == pytest.approx(list(expected.values()), rel=1e-4, abs=1e-9)


def _rounding_decides(logits: Sequence[float], sampling: Sampling) -> bool:
    sizes = {len(naive(logits, Sampling(sampling.temperature, p, sampling.top_k))) for p in _around(sampling.top_p)}
    return len(sizes) > 1


def _around(share: float) -> tuple[float, float]:
    return share * (1 - 1e-5), min(1.0, share * (1 + 1e-5))


@settings(max_examples=100)
@given(logits_with_ties | logits_of_any_kind, samplings, st.integers(1, 5))
def test_a_draw_is_the_token_at_the_next_random_number_of_the_seed(logits: list[float], sampling: Sampling, draws: int) -> None:
    assume(max(logits) > -math.inf)
    numbers = np.random.Generator(np.random.PCG64(sampling.seed)).random(draws)
    sampler, (ids, weights) = Sampler(sampling), candidates(row(*logits), sampling)
    shares = dict(zip(ids, (weights / weights.sum(dtype=np.float64)).tolist(), strict=True))
    for number in numbers:
        token = sampler.draw(row(*logits))
        below = math.fsum(share for other, share in shares.items() if other < token)
        assert shares[token] > 0
        assert below - 1e-9 <= number <= below + shares[token] + 1e-9


@settings(max_examples=100)
@given(logits_with_ties | logits_of_any_kind, st.floats(0, 1e-7))
def test_temperature_0_draws_the_likeliest_token_and_the_lowest_among_equals(logits: list[float], temperature: float) -> None:
    assume(max(logits) > -math.inf)
    assert Sampler(Sampling(temperature)).draw(row(*logits)) == logits.index(max(logits))


@pytest.mark.parametrize(
    ("sampling", "most"),
    [
        (Sampling(1.0, seed=1), 80),
        (Sampling(0.3, seed=2), 80),
        (Sampling(1.5, top_p=0.8, seed=3), 79),
        (Sampling(1.0, top_k=7, seed=4), 7),
        (Sampling(1.0, top_p=0.5, top_k=40, seed=5), 39),
    ],
)
def test_each_token_is_drawn_with_its_probability(sampling: Sampling, most: int) -> None:
    logits = np.random.default_rng(0).normal(0, 2, 80).astype(np.float32)
    expected, draws = naive(logits.tolist(), sampling), 3_000
    sampler = Sampler(sampling)
    drawn = Counter(sampler.draw(logits) for _ in range(draws))
    assert set(drawn) <= set(expected)
    assert len(expected) <= most
    # Chi-square over cells of at least 10 expected draws; the rest makes one cell. 5 standard deviations above its mean.
    cells = [(drawn[i], draws * p) for i, p in expected.items() if draws * p >= 10]
    rest = (draws - sum(o for o, _ in cells), draws - sum(e for _, e in cells))
    chi_square = sum((o - e) ** 2 / e for o, e in [*cells, rest] if e > 1)
    assert chi_square < len(cells) + 5 * math.sqrt(2 * len(cells))


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("sampling", [Sampling(0.7, top_p=0.9), Sampling(1.0, top_k=1000, top_p=0.99), Sampling(1.0, top_k=50)])
def test_top_p_of_a_whole_vocabulary_is_that_of_the_definition(spread: float, sampling: Sampling) -> None:
    logits = np.random.default_rng(1).normal(0, spread, 32768).astype(np.float32)
    ids, _ = candidates(logits, sampling)
    order = np.lexsort((np.arange(32768), -logits.astype(np.float64)))[: sampling.top_k or None]
    shares = np.cumsum(np.exp((logits[order].astype(np.float64) - logits.max()) / sampling.temperature))
    at_least, at_most = np.searchsorted(shares, [p * shares[-1] for p in _around(sampling.top_p)]) + 1
    assert at_least <= len(ids) <= at_most
    assert sorted(order[: len(ids)]) == ids


class Always:
    """A generator that always returns the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_smallest_and_the_largest_random_number_draw_a_possible_token(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(Sampling(1.0))
    monkeypatch.setattr(sampler, "_random", Always(number))
    for seed in range(100):
        logits = np.random.default_rng(seed).normal(0, 4, 1000).astype(np.float32)
        logits[:300] = logits[-300:] = -math.inf
        assert 300 <= sampler.draw(logits) < 700


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    logits = np.random.default_rng(2).normal(size=1000).astype(np.float32)

    def drawn(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(seed=seed))
        return [sampler.draw(logits) for _ in range(20)]

    assert drawn(7) == drawn(7)
    assert drawn(-(2**63)) == drawn(-(2**63))
    assert len({tuple(drawn(seed)) for seed in (7, 8, -7, None, None)}) == 5


def test_a_draw_does_not_change_the_logits() -> None:
    logits = np.random.default_rng(3).normal(size=1000).astype(np.float32)
    before = logits.copy()
    Sampler(Sampling(0.5, top_p=0.9, top_k=100)).draw(logits)
    assert (logits == before).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [row(1, math.nan, 2), row(1, math.inf), row(-math.inf, -math.inf), row(math.nan)])
def test_logits_that_are_not_a_distribution_are_refused(logits: Logits, temperature: float) -> None:
    with pytest.raises(NotFinite):
        Sampler(Sampling(temperature)).draw(logits)


def test_the_largest_float32_logits_cause_no_warning() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert Sampler(Sampling(1e-5)).draw(row(-3e38, 3e38, -math.inf)) == 1


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(-0.1),
        Sampling(math.nan),
        Sampling(math.inf),
        Sampling(top_p=0),
        Sampling(top_p=1.1),
        Sampling(top_p=math.nan),
        Sampling(top_k=-1),
    ],
)
def test_parameters_out_of_bounds_are_refused(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        Sampler(sampling)
