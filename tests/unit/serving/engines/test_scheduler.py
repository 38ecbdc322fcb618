"""The promises of the scheduler, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from exact_engine import ENDS, ExactEngine, alone

from serving.engines.answers import Answer, WaitQueue
from serving.engines.contract import (
    DeadlineExceeded,
    EngineError,
    GenerationFailed,
    Limits,
    Logits,
    NotReady,
    Piece,
    QueueFull,
    Request,
    Sampling,
    Unfit,
)
from serving.engines.scheduler import ADMIT_S, Scheduler

LIMITS = Limits(slots=2, positions=16, max_prompt=10, vocabulary=32, min_prompt=2)
GREEDY = Sampling(temperature=0)
NO_ENDS: frozenset[int] = frozenset()


def request(*prompt: int, tokens: int = 5, within_s: float = 100.0) -> Request:
    return Request("r", prompt or (2, 3), tokens, GREEDY, within_s)


class World:
    """A scheduler over an exact engine, its clock, and all its events. By default no token ends an answer, and no prefill is short."""

    def __init__(self, ends: frozenset[int] = NO_ENDS, max_queue: int = 8, call_s: float = 2 * ADMIT_S) -> None:
        self.now = 0.0
        self.engine = ExactEngine(LIMITS)
        self.scheduler = Scheduler(self.engine, ends, max_queue, lambda: self.now + call_s * len(self.engine.calls))
        self.tokens: dict[Answer, list[int]] = {}
        self.ends: dict[Answer, str | EngineError] = {}

    def submit(self, *requests: Request) -> list[Answer]:
        return [self.scheduler.submit(r) for r in requests]

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for answer, what in self.scheduler.step():
                if isinstance(what, Piece):
                    self.tokens.setdefault(answer, []).extend(what.tokens)
                end = what.finish if isinstance(what, Piece) else what
                if end is not None:
                    assert answer not in self.ends
                    self.ends[answer] = end

    def story(self) -> str:
        return " ".join(what[0] + "".join(map(str, slots)) for what, slots in self.engine.calls)


def test_prefills_alternate_with_decodes_and_the_last_token_is_not_decoded() -> None:
    world = World()
    world.submit(*[request(tokens=4)] * 3)
    world.step(9)
    assert world.story() == "p0 d0 p1 d01 d01 p0 d01 d0 d0"
    assert not world.scheduler.busy
    assert world.scheduler.step() == []


def test_short_prefills_follow_each_other_and_a_live_stream_waits_for_them_no_longer_than_admit_s() -> None:
    world = World(call_s=0.7 * ADMIT_S)
    world.submit(*[request(tokens=2)] * 4)
    world.step(6)
    assert world.story() == "p0 p1 d01 p0 p1 d01"
    world = World(call_s=0.7 * ADMIT_S)
    world.submit(request(tokens=2), *[request(tokens=1)] * 3)
    world.step(6)
    assert world.story() == "p0 p1 d0 p0 p0"
    assert not world.scheduler.busy


def test_answers_of_one_token_are_prefilled_one_after_the_other_and_never_decoded() -> None:
    world = World()
    answers = world.submit(*[request(2, n, tokens=1) for n in range(2, 6)])
    world.step(4)
    assert world.story() == "p0 p0 p0 p0"
    assert [world.ends[a] for a in answers] == ["length"] * 4
    assert not world.scheduler.busy


def test_an_end_token_ends_an_answer_and_is_not_part_of_it() -> None:
    asked = next(r for r in (request(2, n, tokens=14) for n in range(2, 32)) if alone(r, LIMITS)[1] == "stop")
    world = World(ends=ENDS)
    (answer,) = world.submit(asked)
    world.step(14)
    assert world.ends[answer] == "stop"
    assert tuple(world.tokens[answer]) == alone(asked, LIMITS)[0]


def test_an_answer_ends_at_the_last_position() -> None:
    world = World()
    short, long = world.submit(request(2, 3, tokens=1000), request(*range(2, 12), tokens=1000))
    world.step(40)
    assert (world.ends[short], len(world.tokens[short])) == ("length", 14)
    assert (world.ends[long], len(world.tokens[long])) == ("length", 6)


@pytest.mark.parametrize(
    ("unfit", "says"),
    [
        (request(2), "has 1 tokens; between 2 and 10"),
        (request(*[2] * 11), "has 11 tokens; between 2 and 10"),
        (request(tokens=0), "at least 1 token"),
        (request(2, 32), "among the 32"),
        (request(2, -1), "among the 32"),
    ],
)
def test_a_request_that_can_never_be_answered_is_refused_at_once(unfit: Request, says: str) -> None:
    with pytest.raises(Unfit, match=says):
        World().submit(unfit)


def test_a_prompt_must_leave_room_for_one_token_even_if_the_engine_accepts_more() -> None:
    engine = ExactEngine(replace(LIMITS, max_prompt=16))
    scheduler = Scheduler(engine, NO_ENDS, 1, lambda: 0.0)
    with pytest.raises(Unfit, match="between 2 and 15"):
        scheduler.submit(request(*[2] * 16))
    scheduler.submit(request(*[2] * 15))
    assert [what.finish for _, what in scheduler.step() if isinstance(what, Piece)] == ["length"]


def test_sampling_out_of_bounds_is_refused_and_uses_no_place_in_the_queue() -> None:
    world = World()
    with pytest.raises(ValueError, match="top_p=0"):
        world.submit(Request("r", (2, 3), 5, Sampling(top_p=0)))
    assert not world.scheduler.busy


def test_the_queue_is_limited_and_a_cancelled_request_makes_room_with_the_next_step() -> None:
    world = World(max_queue=2)
    world.submit(request(), request())
    world.step(3)
    first, _ = world.submit(request(), request())
    with pytest.raises(QueueFull, match="all 2 slots and all 2 places"):
        world.submit(request())
    first.cancel()
    with pytest.raises(QueueFull):
        world.submit(request())
    world.step()
    world.submit(request())
    with pytest.raises(QueueFull):
        world.submit(request())


def accepted(scheduler: Scheduler) -> int:
    """Submit requests until one is refused; return how many were not."""
    for number in range(100):
        try:
            scheduler.submit(request())
        except QueueFull:
            return number
    raise AssertionError("no request is refused")


def test_requests_that_arrive_before_the_next_step_are_accepted_while_slots_are_free() -> None:
    world = World(max_queue=3)
    assert accepted(world.scheduler) == LIMITS.slots + 3
    world.step(100)
    assert list(world.ends.values()) == ["length"] * (LIMITS.slots + 3)


def test_as_many_requests_are_accepted_during_a_step_as_before_it() -> None:
    world = World(max_queue=3)

    class Asked(ExactEngine):
        """An engine during whose first prefill requests arrive, until one is refused."""

        arrived = 0

        def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
            self.arrived = self.arrived or accepted(world.scheduler)
            return super().prefill(slot, ids)

    world.scheduler = Scheduler(engine := Asked(LIMITS), NO_ENDS, 3, lambda: 0.0)
    world.submit(request())
    world.step()
    assert engine.arrived == LIMITS.slots + 3 - 1


def test_an_answer_on_its_way_from_the_queue_to_a_slot_has_a_place() -> None:
    queue = WaitQueue(slots=1, most=0)
    queue.join(Answer(request(), LIMITS, 0.0))
    queue.take()
    with pytest.raises(QueueFull):
        queue.join(Answer(request(), LIMITS, 0.0))
    queue.make_room()
    queue.join(Answer(request(), LIMITS, 0.0))


def test_a_cancelled_stream_frees_its_slot_with_the_next_step_and_gets_no_event() -> None:
    world = World()
    going, staying = world.submit(request(), request())
    world.step(3)
    going.cancel()
    world.submit(request())
    world.step(2)
    assert world.story() == "p0 d0 p1 d1 p0"
    assert going not in world.ends
    assert len(world.tokens[staying]) == 2
    assert world.scheduler.stats().cancelled == 1


def test_a_deadline_counts_from_arrival_for_waiting_and_live_requests() -> None:
    world = World()
    live, other, waiting = world.submit(request(within_s=5, tokens=14), request(tokens=14), request(within_s=5))
    world.step(3)
    world.now = 4.0
    world.step()
    assert not world.ends
    world.now = 5.0
    world.step()
    for expired, tokens in ((live, 3), (waiting, 0)):
        assert isinstance(world.ends[expired], DeadlineExceeded)
        assert f"not whole within 5 s; {tokens} tokens" in str(world.ends[expired])
    assert other not in world.ends
    assert world.scheduler.stats().expired == 2


def test_a_failed_prefill_ends_its_own_request_and_no_other() -> None:
    world = World()
    first, second, third = world.submit(request(2, 4), request(2, 5), request(2, 6))
    world.step(2)
    world.engine.orders.fail = 1
    world.step(20)
    assert str(world.ends[second]) == "the engine failed (RuntimeError); 0 tokens of the answer were given"
    for whole, prompt in ((first, (2, 4)), (third, (2, 6))):
        assert tuple(world.tokens[whole]) == alone(request(*prompt), LIMITS, NO_ENDS)[0]


def test_a_failed_decode_ends_all_live_requests_and_the_queue_goes_on() -> None:
    world = World()
    first, second, waiting = world.submit(request(2, 4), request(2, 5), request(2, 6))
    world.step(3)
    world.engine.orders.fail = 1
    world.step(20)
    for failed, tokens in ((first, 2), (second, 1)):
        assert isinstance(world.ends[failed], GenerationFailed)
        assert f"{tokens} tokens" in str(world.ends[failed])
    assert world.ends[waiting] == "length"
    assert tuple(world.tokens[waiting]) == alone(request(2, 6), LIMITS, NO_ENDS)[0]


def test_a_row_that_is_not_a_distribution_ends_its_own_answer_and_no_other() -> None:
    world = World()
    spoilt, whole = world.submit(request(2, 4), request(2, 5))
    world.step(3)
    world.engine.orders.spoil = {0}
    world.step(20)
    assert str(world.ends[spoilt]) == "the engine failed (NotFinite); 2 tokens of the answer were given"
    assert tuple(world.tokens[whole]) == alone(request(2, 5), LIMITS, NO_ENDS)[0]


def test_an_engine_that_fails_three_times_in_a_row_is_broken_and_all_requests_get_an_error() -> None:
    world = World()
    requests = world.submit(*[request()] * 6)
    world.step()
    world.engine.orders.fail = 3
    world.step(4)
    assert world.story() == "p0 d0 p0 p0"
    assert [type(world.ends[a]) for a in requests] == [GenerationFailed] * 3 + [NotReady] * 3
    assert not world.scheduler.busy
    with pytest.raises(NotReady, match="3 steps in a row failed"):
        world.submit(request())


@pytest.mark.parametrize("call_s", [2 * ADMIT_S, ADMIT_S / 10])
def test_a_live_stream_ends_with_an_error_when_the_engine_breaks(call_s: float) -> None:
    world = World(call_s=call_s)
    steady, *_ = world.submit(*[request(tokens=14)] * 5)
    world.step()
    world.engine.orders.fail = 3
    world.step(3)
    assert isinstance(world.ends[steady], GenerationFailed)
    assert world.scheduler.stats().live == 0
    assert world.scheduler.broken


def test_an_engine_is_not_broken_if_a_step_between_the_failures_succeeds() -> None:
    world = World()
    for _ in range(3):
        world.submit(*[request(tokens=1)] * 3)
        world.engine.orders.fail = 2
        world.step(3)
    assert world.scheduler.stats().failed == 6
    assert world.scheduler.stats().finished == 3
    assert not world.scheduler.broken


class Misshapen(ExactEngine):
    """An engine that returns one row too many."""

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        rows = super().decode(slots, tokens, positions)
        return np.concatenate((rows, rows[:1]))


def test_logits_of_another_shape_are_a_failed_step_and_never_read() -> None:
    scheduler = Scheduler(Misshapen(LIMITS), NO_ENDS, 8, lambda: 0.0)
    scheduler.submit(request())
    events = [*scheduler.step(), *scheduler.step()]
    assert [type(e.what) for e in events] == [Piece, GenerationFailed]
