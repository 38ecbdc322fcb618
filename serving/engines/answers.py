"""An answer while it is computed, and the queue of answers that wait for a slot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection

from serving.engines.contract import Limits, Logits, NotReady, Piece, QueueFull, Request, Unfit
from serving.engines.sampling import Sampler


def check_fit(request: Request, limits: Limits) -> None:
    """Return if the request can be answered within the limits.

    Raises:
        Unfit: it cannot; the message names what would have to be smaller or larger.
    """
    size, most = len(request.prompt), limits.longest_prompt
    if not limits.min_prompt <= size <= most:
        raise Unfit(f"the prompt has {size} tokens; between {limits.min_prompt} and {most} can be taken")
    if request.max_tokens < 1:
        raise Unfit(f"an answer has at least 1 token, not {request.max_tokens}")
    # An id that the model does not have would make the engine fail, and some failures end the answers of all requests.
    if not (min(request.prompt) >= 0 and max(request.prompt) < limits.vocabulary):
        raise Unfit(f"a token of the prompt is not among the {limits.vocabulary} that the model knows")


class Answer:
    """A request and the state of its answer. Scheduler.submit creates it; callers other than the scheduler use only `cancel`."""

    def __init__(self, request: Request, limits: Limits, arrived: float) -> None:
        """Check the request.

        Raises:
            Unfit: it can never be answered.
            ValueError: its sampling is out of bounds.
        """
        check_fit(request, limits)
        self.request = request
        self.arrived = arrived
        self.given = 0
        """Tokens delivered to the reader."""
        self.last = -1
        """The newest delivered token, which the slot does not hold yet."""
        self.last_at = arrived
        self.cancelled = False
        self._most = min(request.max_tokens, limits.positions - len(request.prompt))
        self._sampler = Sampler(request.sampling)

    @property
    def position(self) -> int:
        """The position at which the slot is to hold the newest token."""
        return len(self.request.prompt) + self.given - 1

    def is_over(self, now: float) -> bool:
        """Whether the answer was cancelled or its deadline has passed, so that nothing more is computed for it."""
        return self.cancelled or now - self.arrived >= self.request.within_s

    def cancel(self) -> None:
        """Mark the answer as not wanted any more: the next step ends it. Any thread may call this, also after the answer has ended."""
        self.cancelled = True

    def next_piece(self, logits: Logits, ends: Collection[int], now: float) -> Piece:
        """Draw the next token from its logits, [vocabulary], and return it as a piece.

        Raises:
            NotFinite: the logits are not a distribution.
        """
        token = self._sampler.draw(logits)
        if token in ends:
            return Piece((), "stop")
        self.last, self.last_at = token, now
        self.given += 1
        return Piece((token,), "length" if self.given == self._most else None)


class WaitQueue:
    """FIFO queue of answers that wait for a slot. Any thread may call `join`; only the engine's thread calls the other methods.

    The queue limits all answers that have not ended, in the queue and in a slot together. A limit on those that wait alone would refuse
    requests that arrive during one step, while slots are free that only the next steps fill.
    """

    def __init__(self, slots: int, most: int) -> None:
        """Create a queue before this number of slots, in which `most` answers wait when no slot is free."""
        self._slots = slots
        self._most = most
        self._not_ended = 0
        self._waiting: deque[Answer] = deque()
        self._closed = ""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, answer: Answer) -> None:
        """Append an answer.

        Raises:
            QueueFull: all slots and all places in the queue are taken.
            NotReady: the queue was closed; the message is the reason.
        """
        with self._lock:
            if self._closed:
                raise NotReady(self._closed)
            if self._not_ended >= self._slots + self._most:
                raise QueueFull(f"all {self._slots} slots and all {self._most} places in the queue are taken")
            self._not_ended += 1
            self._waiting.append(answer)

    def take(self) -> Answer:
        """Remove and return the answer that has waited longest. The queue must not be empty."""
        return self._waiting.popleft()

    def make_room(self) -> None:
        """Note that an answer has ended, whether it was in a slot or in the queue: `join` accepts one more."""
        with self._lock:
            self._not_ended -= 1

    def drop(self, which: Callable[[Answer], bool]) -> list[Answer]:
        """Remove and return the waiting answers for which `which` is true."""
        with self._lock:
            dropped: list[Answer] = []
            stay: deque[Answer] = deque()
            for answer in self._waiting:
                (dropped if which(answer) else stay).append(answer)
            self._waiting = stay
            return dropped

    def close(self, why: str) -> list[Answer]:
        """Remove and return all waiting answers; `join` raises NotReady with this reason from now on."""
        with self._lock:
            self._closed = why
            left, self._waiting = list(self._waiting), deque()
            return left
