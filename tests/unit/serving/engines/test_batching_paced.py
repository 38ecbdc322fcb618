"""The paced engine decodes by a schedule; only its sleep and its steps move the clock here."""

from __future__ import annotations

from collections.abc import Sequence

from exact_engine import ExactEngine

from serving.engines.contract import Limits, Logits
from serving.engines.paced import PacedEngine

LIMITS = Limits(slots=1, positions=1000, max_prompt=10, vocabulary=32)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Slow(ExactEngine):
    """A step engine with steps of a given duration."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(LIMITS)
        self.clock = clock
        self.step_s = 0.0

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        self.clock.pass_by(self.step_s)
        return super().prefill(slot, ids)

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self.began = self.clock.now
        self.clock.pass_by(self.step_s)
        return super().decode(slots, tokens, positions)


class World:
    """Return a paced engine of two decodes a second, with one sequence in it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.engine = Slow(self.clock)
        self.paced = PacedEngine(self.engine, 2.0, lambda: self.clock.now, self.clock.pass_by)
        self.prefill()

    def prefill(self) -> None:
        self.paced.prefill(0, [2, 3])
        self.position = 2

    def decodes(self, *step_s: float) -> list[float]:
        """Return the times at which decodes of these durations began, in seconds since the start."""
        began = []
        for self.engine.step_s in step_s:
            self.paced.decode([0], [2], [self.position])
            self.position += 1
            began.append(self.engine.began - 100)
        return began


def test_decodes_follow_the_schedule_whatever_their_duration() -> None:
    assert World().decodes(0.1, 0.4, 0.0, 0.25) == [0, 0.5, 1.0, 1.5]


def test_decodes_catch_up_with_the_schedule_after_a_slow_one() -> None:
    assert World().decodes(0, 1.25, 0, 0, 0, 0) == [0, 0.5, 1.75, 1.75, 2.0, 2.5]


def test_decodes_catch_up_at_most_a_second() -> None:
    assert World().decodes(0, 60, 0, 0, 0, 0) == [0, 0.5, 60.5, 60.5, 60.5, 61.0]


def test_a_new_schedule_begins_after_a_pause() -> None:
    world = World()
    world.decodes(0)
    world.clock.pass_by(30)
    assert world.decodes(0, 0, 0) == [30, 30.5, 31.0]


def test_after_a_pause_that_a_prefill_ends_the_schedule_begins_with_the_prefill() -> None:
    world = World()
    world.decodes(0)
    world.clock.pass_by(30)
    world.engine.step_s = 0.25
    world.prefill()
    assert world.decodes(0, 0, 0) == [30.25, 30.5, 31.0]


def test_a_prefill_is_not_paced_and_decodes_catch_up_after_it() -> None:
    world = World()
    world.decodes(0)
    world.engine.step_s = 0.75
    world.prefill()
    assert world.decodes(0, 0, 0) == [0.75, 1.0, 1.5]


def test_everything_else_is_passed_to_the_wrapped_engine() -> None:
    world = World()
    assert world.paced.limits == LIMITS
    world.paced.close()
    assert world.engine.closed
