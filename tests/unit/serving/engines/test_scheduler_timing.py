"""Waiting times of streams on an engine with steps of known duration, and the callbacks about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exact_engine import ExactEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engines.callbacks import EngineCallbacks, Outcome
from serving.engines.contract import Limits, Logits, Request
from serving.engines.scheduler import ADMIT_S, Scheduler

LIMITS = Limits(slots=2, positions=16, max_prompt=10, vocabulary=32, min_prompt=2)


class Timed(ExactEngine):
    """An engine that takes one time for each token of a prompt, and the same for a decode."""

    def __init__(self, spend: Callable[[float], None]) -> None:
        super().__init__(LIMITS)
        self.spend = spend

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        self.spend(len(ids))
        return super().prefill(slot, ids)

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self.spend(1)
        return super().decode(slots, tokens, positions)


class Notes(EngineCallbacks):
    """Callbacks that record their calls."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.firsts: list[float] = []
        self.gaps: list[float] = []
        self.outcomes: list[Outcome] = []

    def admitted(self, waited_s: float) -> None:
        self.waits.append(waited_s)

    def first_token(self, after_s: float) -> None:
        self.firsts.append(after_s)

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        self.gaps += gaps_s

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class TimedWorld:
    """A scheduler with a clock that moves only while its engine computes."""

    def __init__(self, token_s: float = 1.0) -> None:
        self.now, self.token_s = 0.0, token_s
        self.notes = Notes()
        self.scheduler = Scheduler(Timed(self.spend), (), 100, lambda: self.now, self.notes)

    def spend(self, tokens: float) -> None:
        self.now += tokens * self.token_s

    def run(self, prompts: Sequence[int], between: Sequence[int]) -> None:
        """Submit prompts of these sizes, each after its number of steps; then run to the end."""
        for size, steps in zip(prompts, between, strict=True):
            for _ in range(steps):
                self.scheduler.step()
            self.scheduler.submit(Request("r", (2,) * size, 6))
        while self.scheduler.busy:
            self.scheduler.step()


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(2, 10), st.integers(0, 6)), min_size=1, max_size=20), st.sampled_from([1.0, ADMIT_S / 10]))
def test_no_token_gap_is_longer_than_one_decode_the_time_of_admission_and_the_longest_prefill(
    arrivals: list[tuple[int, int]], token_s: float
) -> None:
    world = TimedWorld(token_s)
    sizes, between = zip(*arrivals, strict=True)
    world.run(sizes, between)
    assert len(world.notes.gaps) == 5 * len(sizes)
    assert max(world.notes.gaps) <= token_s * (1 + max(sizes)) + ADMIT_S


def test_callbacks_get_waits_first_tokens_gaps_and_ends() -> None:
    world = TimedWorld()
    world.run([4, 3], [0, 0])
    assert world.notes.waits == [0, 5]
    assert world.notes.firsts == [4, 8]
    assert world.notes.gaps == [1, 4, 1, 1, 1, 1, 1, 1, 1, 1]
    assert world.notes.outcomes == ["finished", "finished"]
