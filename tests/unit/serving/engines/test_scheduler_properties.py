"""Invariants of the scheduler after every step, under any sequence of arrivals, cancels, failures and delays."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from exact_engine import ENDS, ExactEngine, alone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from serving.engines.answers import Answer
from serving.engines.contract import (
    DeadlineExceeded,
    EngineError,
    FinishReason,
    GenerationFailed,
    Limits,
    NotReady,
    Piece,
    QueueFull,
    Request,
    Sampling,
)
from serving.engines.scheduler import ADMIT_S, BROKEN_AFTER, Event, Scheduler

LIMITS = Limits(slots=3, positions=16, max_prompt=10, vocabulary=32, min_prompt=2)
MAX_QUEUE = 4


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """Silence the log: thousands of intended failures need no traceback each."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


greedy = st.just(Sampling(temperature=0))
drawn = st.builds(Sampling, st.floats(0.1, 2), st.floats(0.1, 1), st.integers(0, LIMITS.vocabulary), st.integers(-(2**63), 2**63))
requests = st.builds(
    Request,
    id=st.just("any"),
    prompt=st.lists(st.integers(2, LIMITS.vocabulary - 1), min_size=2, max_size=LIMITS.max_prompt).map(tuple),
    max_tokens=st.integers(1, 20),
    sampling=greedy | drawn,
    within_s=st.sampled_from([4.0, 30.0, 1000.0]),
)


@dataclass(eq=False)
class Asked:
    """A request as its client sees it."""

    request: Request
    answer: Answer
    arrived: float
    tokens: list[int] = field(default_factory=list)
    end: FinishReason | EngineError | None = None
    slot: int | None = None
    prefills_since_token: int = 0

    @property
    def over(self) -> bool:
        return self.end is not None or self.answer.cancelled

    def take(self, what: Piece | EngineError) -> None:
        assert self.end is None, "something came after the end"
        if isinstance(what, Piece):
            self.tokens += what.tokens
            self.end = what.finish
            self.prefills_since_token = 0
        else:
            self.end = what


class AnyOrder(RuleBasedStateMachine):
    """Arrivals, cancels, failures, delays and steps in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.call_s = 0.0, 1 / 8
        self.engine = ExactEngine(LIMITS)
        self.scheduler = Scheduler(self.engine, ENDS, MAX_QUEUE, self.clock)
        self.asked: list[Asked] = []
        self.unseen_cancels = 0
        """Cancelled answers that still have their place, in the queue or in a slot, until the next step."""
        self.failed_in_a_row = 0

    @initialize(call_s=st.sampled_from([1 / 8, 1 / 32]))
    def the_engine_has_a_pace(self, call_s: float) -> None:
        """Let one call, or four, begin while requests are admitted. Sums of these times are exact, as those of `time_passes` are."""
        self.call_s = call_s

    def clock(self) -> float:
        return self.now + self.call_s * len(self.engine.calls)

    def waiting(self) -> list[Asked]:
        return [a for a in self.asked if a.slot is None and not a.over]

    def live(self) -> list[Asked]:
        return [a for a in self.asked if a.slot is not None and not a.over]

    @property
    def broken(self) -> bool:
        return self.failed_in_a_row >= BROKEN_AFTER

    @rule(request=requests)
    def arrive(self, request: Request) -> None:
        not_ended = len(self.waiting()) + len(self.live()) + self.unseen_cancels
        if self.broken:
            with pytest.raises(NotReady):
                self.scheduler.submit(request)
        elif not_ended >= LIMITS.slots + MAX_QUEUE:
            with pytest.raises(QueueFull):
                self.scheduler.submit(request)
        else:
            self.asked.append(Asked(request, self.scheduler.submit(request), self.clock()))
        stats = self.scheduler.stats()
        assert stats.live + stats.queued <= LIMITS.slots + MAX_QUEUE

    @precondition(lambda self: self.waiting() or self.live())
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(self.waiting() + self.live()))
        who.answer.cancel()
        self.unseen_cancels += 1

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(steps=st.integers(1, BROKEN_AFTER))
    def the_engine_will_fail(self, steps: int) -> None:
        self.engine.orders.fail = steps

    @rule(slot=st.integers(0, LIMITS.slots - 1))
    def a_row_will_be_spoilt(self, slot: int) -> None:
        self.engine.orders.spoil.add(slot)

    @rule(most=st.integers(1, 12))
    def steps(self, most: int) -> None:
        for _ in range(most):
            self.step()

    def step(self) -> None:
        expired = [a for a in self.waiting() + self.live() if self.clock() >= a.arrived + a.request.within_s]
        waiting = [a for a in self.waiting() if a not in expired]
        live = [a for a in self.live() if a not in expired]
        calls_before, busy = len(self.engine.calls), self.scheduler.busy
        events = self.scheduler.step()
        calls = self.engine.calls[calls_before:]
        self.unseen_cancels = 0
        assert busy or not (events or calls)
        assert len(calls) == bool(waiting or live), "a step computes once, if there is anything to compute"
        remaining = self.expire(events, expired)
        computed_for: list[Asked] = []
        for what, slots in calls:
            computed_for = self.prefilled(slots, waiting, live) if what == "prefill" else self.decoded(slots, waiting, live)
        self.take(remaining, computed_for, [*live, *waiting])
        assert self.scheduler.stats().live == len(self.live())
        assert self.scheduler.stats().queued == len(self.waiting())

    def expire(self, events: list[Event], expired: list[Asked]) -> list[Event]:
        """Check that requests past their deadline get their error before any other event."""
        assert {e.answer for e in events if isinstance(e.what, DeadlineExceeded)} == {a.answer for a in expired}
        for event in events[: len(expired)]:
            self.of(event).take(event.what)
        return events[len(expired) :]

    def prefilled(self, slots: tuple[int, ...], waiting: list[Asked], live: list[Asked]) -> list[Asked]:
        first, (slot,) = waiting[0], slots
        assert slot not in [a.slot for a in live], "a slot is not shared"
        first.slot = slot
        for other in live:
            other.prefills_since_token += 1
            assert other.prefills_since_token <= math.ceil(ADMIT_S / self.call_s), "a live stream waits for no more prefills"
        return [first]

    def decoded(self, slots: tuple[int, ...], waiting: list[Asked], live: list[Asked]) -> list[Asked]:
        assert set(slots) == {a.slot for a in live}, "all live slots, and no other"
        starved = waiting and len(live) < LIMITS.slots
        assert not starved or self.engine.calls[-2][0] == "prefill", "no request waits longer than a decode while a slot is free"
        return live

    def take(self, events: list[Event], computed_for: list[Asked], all_requests: list[Asked]) -> None:
        """Check that each computed request gets exactly one event, and all requests when the engine breaks."""
        if computed_for:
            self.failed_in_a_row = 0 if any(isinstance(e.what, Piece) for e in events) else self.failed_in_a_row + 1
        expected = all_requests if self.broken else computed_for
        assert sorted(id(e.answer) for e in events) == sorted(id(a.answer) for a in expected)
        for event in events:
            asked = self.of(event)
            asked.take(event.what)
            assert not isinstance(event.what, NotReady) or asked.slot is None

    def of(self, event: Event) -> Asked:
        return next(a for a in self.asked if a.answer is event.answer)

    def teardown(self) -> None:
        """Check that all remaining requests end, and that every answer is the one that the request gets alone."""
        self.engine.orders.fail = 0
        for _ in range((MAX_QUEUE + LIMITS.slots) * (LIMITS.positions + 1)):
            self.step()
        assert not self.scheduler.busy
        for asked in self.asked:
            self.right(asked)
        stats = self.scheduler.stats()
        assert (stats.live, stats.queued) == (0, 0)
        assert stats.finished + stats.cancelled + stats.expired + stats.failed == len(self.asked)
        assert (stats.steps, stats.prefills) == (len(self.engine.calls), [what for what, _ in self.engine.calls].count("prefill"))
        assert stats.tokens == sum(len(a.tokens) for a in self.asked)

    def right(self, asked: Asked) -> None:
        tokens, finish = alone(asked.request, LIMITS)
        if isinstance(asked.end, str):
            assert (tuple(asked.tokens), asked.end) == (tokens, finish)
            return
        assert asked.answer.cancelled or isinstance(asked.end, (DeadlineExceeded, GenerationFailed, NotReady))
        assert tuple(asked.tokens) == tokens[: len(asked.tokens)]
        if isinstance(asked.end, (DeadlineExceeded, GenerationFailed)):
            assert f"{len(asked.tokens)} tokens" in str(asked.end)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=120, stateful_step_count=40)
