"""Continuous batching: which request is computed when, as a state machine without threads and without a clock of its own.

A step is one call of the step engine: the prefill of one waiting request, or a decode of all live ones. Requests leave the queue in
order of arrival. After a decode, free slots are filled first, so they do not stay free while requests wait; but while any stream is live,
no prefill begins later than ADMIT_S after the first one. So a stream waits for its next token at most one decode, that time and one
prefill, whatever arrives, and an engine whose prefills are short takes more requests than it makes steps.

A failed prefill ends its own request, a failed decode ends all live ones; waiting requests go on. Three failed steps in a row are no
accident: the scheduler is then *broken*, permanently, and ends all requests.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import NamedTuple, get_args

from serving.engines.answers import Answer, WaitQueue
from serving.engines.callbacks import EngineCallbacks, Outcome, Stats
from serving.engines.contract import DeadlineExceeded, EngineError, GenerationFailed, Logits, NotReady, Piece, Request, StepEngine
from serving.engines.sampling import NotFinite

ADMIT_S = 0.1
"""Seconds after the first prefill in which others may begin before the next decode: about as long as a decode takes."""
BROKEN_AFTER = 3
"""Failed steps in a row after which the scheduler is broken."""

log = logging.getLogger(__name__)


class Event(NamedTuple):
    """The result of a step for one answer. Nothing follows a piece with a finish reason, or an error."""

    answer: Answer
    what: Piece | EngineError


class Scheduler:
    """Answers requests with a step engine, as many at once as it has slots.

    One thread calls `step`. Any other may call `submit`, read the public attributes, and cancel an Answer.
    """

    def __init__(
        self, engine: StepEngine, ends: Collection[int], max_queue: int, now: Callable[[], float], callbacks: EngineCallbacks | None = None
    ) -> None:
        """Create a scheduler over an engine.

        Args:
            ends: the tokens that end an answer.
            max_queue: requests that may wait when no slot is free.
            now: the clock, in seconds.
        """
        self.limits = engine.limits
        self.broken = ""
        """Reason why nothing is computed any more; empty while the scheduler works."""
        self._engine = engine
        self._ends = frozenset(ends)
        self._now = now
        self._callbacks = callbacks or EngineCallbacks()
        self._queue = WaitQueue(self.limits.slots, max_queue)
        self._slots: list[Answer | None] = [None] * self.limits.slots
        self._prefilled_last = False
        self._admitting_since = -math.inf
        self._failed_in_a_row = 0
        # All keys from the start: another thread may call stats() while a step counts.
        self._counts = dict.fromkeys((*get_args(Outcome), "tokens", "steps", "prefills"), 0)

    @property
    def busy(self) -> bool:
        """Whether a step would do something."""
        return bool(self._queue) or any(self._slots)

    def stats(self) -> Stats:
        """Return how much work there is and was."""
        return Stats(queued=len(self._queue), live=len(self._live()), slots=self.limits.slots, **self._counts)

    def submit(self, request: Request) -> Answer:
        """Put the request into the queue; `step` returns its pieces.

        Raises:
            Unfit, QueueFull, NotReady: the request is refused.
            ValueError: its sampling is out of bounds.
        """
        answer = Answer(request, self.limits, self._now())
        self._queue.join(answer)
        return answer

    def step(self) -> list[Event]:
        """End what is over, then compute once: a prefill, or a decode of all live requests, or nothing when there are none.

        A cancelled answer gets no event from the next step on.
        """
        events = self._end_overdue()
        live = self._live()
        if not live or not self._prefilled_last:
            self._admitting_since = self._now()
        if self._queue and len(live) < len(self._slots) and self._now() - self._admitting_since < ADMIT_S:
            return events + self._prefill(self._queue.take(), self._slots.index(None))
        if live:
            return events + self._decode(live)
        return events

    def _live(self) -> list[tuple[int, Answer]]:
        return [(slot, answer) for slot, answer in enumerate(self._slots) if answer]

    def _end_overdue(self) -> list[Event]:
        now = self._now()
        over = self._queue.drop(lambda answer: answer.is_over(now))
        over += [answer for _, answer in self._live() if answer.is_over(now)]
        for answer in over:
            self._end(answer, "cancelled" if answer.cancelled else "expired")
        return [Event(a, DeadlineExceeded(f"not whole within {a.request.within_s:g} s; {_given(a)}")) for a in over if not a.cancelled]

    def _prefill(self, answer: Answer, slot: int) -> list[Event]:
        self._slots[slot] = answer
        self._prefilled_last = True
        self._counts["prefills"] += 1
        self._callbacks.admitted(self._now() - answer.arrived)
        return self._compute([answer], lambda: self._engine.prefill(slot, answer.request.prompt)[None])

    def _decode(self, live: list[tuple[int, Answer]]) -> list[Event]:
        self._prefilled_last = False
        slots, answers = [slot for slot, _ in live], [answer for _, answer in live]
        tokens, positions = [a.last for a in answers], [a.position for a in answers]
        return self._compute(answers, lambda: self._engine.decode(slots, tokens, positions))

    def _compute(self, answers: list[Answer], call: Callable[[], Logits]) -> list[Event]:
        """Make a step. A step that brings no answer a piece has failed, by an exception or by what it returned."""
        self._counts["steps"] += 1
        try:
            logits = call()
            if logits.shape != (len(answers), self.limits.vocabulary):
                raise ValueError(f"logits of shape {logits.shape} for {len(answers)} answers")
        except Exception as error:
            log.exception("a step of the engine failed")
            events = [self._fail(answer, type(error).__name__) for answer in answers]
        else:
            events = self._draw(answers, logits)
        if any(isinstance(event.what, Piece) for event in events):
            self._failed_in_a_row = 0
            return events
        self._failed_in_a_row += 1
        self._admitting_since = -math.inf  # a decode is next while any stream is live: three failures in a row must not spare it
        return events + self._break() if self._failed_in_a_row == BROKEN_AFTER else events

    def _draw(self, answers: list[Answer], logits: Logits) -> list[Event]:
        """Draw the next token of each answer from its row of the logits."""
        now, before = self._now(), [answer.last_at for answer in answers]
        events = [self._next(answer, row, now) for answer, row in zip(answers, logits, strict=True)]
        gaps = [now - at for at, event in zip(before, events, strict=True) if isinstance(event.what, Piece) and event.what.tokens]
        self._counts["tokens"] += len(gaps)
        if self._prefilled_last:
            for gap in gaps:
                self._callbacks.first_token(gap)
        elif gaps:
            self._callbacks.next_tokens(gaps)
        return events

    def _next(self, answer: Answer, row: Logits, now: float) -> Event:
        try:
            piece = answer.next_piece(row, self._ends, now)
        except NotFinite as error:
            log.error("an answer failed: %s", error)
            return self._fail(answer, type(error).__name__)
        if piece.finish:
            self._end(answer, "finished")
        return Event(answer, piece)

    def _fail(self, answer: Answer, why: str) -> Event:
        """End the answer with an error. The engine's own message stays in the log: it is not meant for the client."""
        self._end(answer, "failed")
        return Event(answer, GenerationFailed(f"the engine failed ({why}); {_given(answer)}"))

    def _break(self) -> list[Event]:
        """End all waiting requests. None is live by now: if one was, one of the failed steps was a decode, which ended it."""
        self.broken = f"the engine is broken: {BROKEN_AFTER} steps in a row failed"
        log.error(self.broken)
        waiting = self._queue.close(self.broken)
        for answer in waiting:
            self._end(answer, "failed")
        return [Event(answer, NotReady(self.broken)) for answer in waiting]

    def _end(self, answer: Answer, outcome: Outcome) -> None:
        """Free the answer's slot, if it has one, then its place, and count how the request ended."""
        if answer in self._slots:
            self._slots[self._slots.index(answer)] = None
        self._queue.make_room()
        self._counts[outcome] += 1
        self._callbacks.ended(outcome)


def _given(answer: Answer) -> str:
    return f"{answer.given} tokens of the answer were given"
