"""The cpu engine's results for a sequence are the same to the bit, whatever is computed beside it and in whichever slot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import VOCABULARY, prompt, write
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engines.cpu.engine import CpuEngine
from serving.engines.cpu.weights import Matrix

SLOTS = 16
OURS = prompt(40, seed=1)
"""The observed sequence: a part of it is the prompt, the rest is decoded token by token."""


def alone(engine: CpuEngine, start: int) -> list[bytes]:
    """Return the bits of all logits of the observed sequence when it is the only one."""
    seen = [engine.prefill(0, OURS[:start]).tobytes()]
    return [*seen, *(engine.decode([0], [OURS[p]], [p])[0].tobytes() for p in range(start, len(OURS)))]


class Neighbours:
    """Other sequences, which begin, grow and end at random."""

    def __init__(self, engine: CpuEngine, random: np.random.Generator, slots: list[int]) -> None:
        self._engine, self._random, self._slots = engine, random, slots
        self.lengths: dict[int, int] = {}

    def change(self) -> None:
        """End some sequences and begin some."""
        for slot in self._slots:
            if self._random.random() < 0.3:
                self.lengths.pop(slot, None)
            if slot not in self.lengths and self._random.random() < 0.4:
                self.lengths[slot] = int(self._random.integers(1, 100))
                self._engine.prefill(slot, prompt(self.lengths[slot], seed=slot))

    def step(self) -> list[tuple[int, int, int]]:
        """Return (slot, token, position) of each sequence."""
        taken = [(slot, int(self._random.integers(VOCABULARY)), length) for slot, length in self.lengths.items()]
        self.lengths = {slot: length + 1 for slot, length in self.lengths.items() if length < 126}
        return taken


def in_company(engine: CpuEngine, start: int, slot: int, random: np.random.Generator) -> list[bytes]:
    """Return the same bits with other sequences beside it, in this slot, in any order."""
    neighbours = Neighbours(engine, random, [s for s in range(SLOTS) if s != slot])
    neighbours.change()
    seen = [engine.prefill(slot, OURS[:start]).tobytes()]
    for position in range(start, len(OURS)):
        neighbours.change()
        rows = [*neighbours.step(), (slot, OURS[position], position)]
        random.shuffle(rows)
        logits = engine.decode(*zip(*rows, strict=True))
        seen.append(logits[[row[0] for row in rows].index(slot)].tobytes())
    return seen


@pytest.fixture(
    scope="module", params=[{}, {"num_key_value_heads": 6}, {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 16}], ids=str
)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CpuEngine:
    """Return the engine over models of several shapes."""
    return CpuEngine(write(tmp_path_factory.mktemp("model"), **request.param), slots=SLOTS, positions=128)


@settings(max_examples=8, deadline=None)
@given(start=st.integers(1, 35), slot=st.integers(0, SLOTS - 1), seed=st.integers(0, 2**32))
def test_other_sequences_and_another_slot_change_no_bit(engine: CpuEngine, start: int, slot: int, seed: int) -> None:
    assert in_company(engine, start, slot, np.random.default_rng(seed)) == alone(engine, start)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_history_beside_short_ones_changes_nothing(tmp_path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    engine = CpuEngine(write(tmp_path, max_position_embeddings=2048), slots=4, positions=2048)
    ids = prompt(700)
    engine.prefill(2, ids)
    expected = [engine.decode([2], [token], [700 + n])[0].tobytes() for n, token in enumerate(OURS[:10])]
    for slot, length in ((0, 1500), (3, 5)):
        engine.prefill(slot, prompt(length))
    engine.prefill(1, ids)
    seen = [engine.decode([3, 1, 0], [9, token, 8], [5 + n, 700 + n, 1500 + n])[1].tobytes() for n, token in enumerate(OURS[:10])]
    assert seen == expected


def test_a_width_at_which_the_kernels_give_other_bits_is_not_used(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Matrix.__call__
    monkeypatch.setattr(Matrix, "__call__", lambda matrix, x: real(matrix, x) * (1.001 if len(x) == 2 else 1))
    engine = CpuEngine(checkpoint, slots=SLOTS, positions=64)
    for slot in range(3):
        engine.prefill(slot, OURS[:5])
    rows = [engine.decode(range(live), [7] * live, [5] * live)[0].tobytes() for live in (1, 2, 3)]
    assert rows[0] == rows[1] == rows[2]


def test_a_packed_matrix_gives_a_row_the_same_bits_at_every_place_in_the_batch() -> None:
    # BLAS does not, on most processors. That is not asserted, because BLAS promises neither.
    weight, row = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(1)).unbind()
    packed, seen = Matrix(weight, SLOTS), set()
    for place in range(13):
        x = torch.zeros(13, 512)
        x[place] = row[0]
        seen.add(packed(x)[place].numpy().tobytes())
    assert len(seen) == 1
