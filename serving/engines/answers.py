"""One answer on its way, and the line of those that wait for a slot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection

from serving.engines.contract import Limits, Logits, NotReady, Piece, QueueFull, Request, Unfit
from serving.engines.sampling import Sampler


def longest_prompt(limits: Limits) -> int:
    """Tokens of the longest prompt that leaves room for an answer."""
    return min(limits.max_prompt, limits.positions - 1)


def check_fit(request: Request, limits: Limits) -> None:
    """The request can be answered within the limits.

    Raises:
        Unfit: it cannot; says what would have to be smaller or larger.
    """
    size, most = len(request.prompt), longest_prompt(limits)
    if not limits.min_prompt <= size <= most:
        raise Unfit(f"the prompt has {size} tokens; between {limits.min_prompt} and {most} can be taken")
    if request.max_tokens < 1:
        raise Unfit(f"an answer has at least 1 token, not {request.max_tokens}")
    # An id that the model does not have would be a failure of the engine, and some of those end it for everybody.
    if not (min(request.prompt) >= 0 and max(request.prompt) < limits.vocabulary):
        raise Unfit(f"a token of the prompt is not among the {limits.vocabulary} that the model knows")


class Answer:
    """A request and how far its answer is. Made by Scheduler.submit; only `cancel` is for others than the scheduler."""

    def __init__(self, request: Request, limits: Limits, arrived: float) -> None:
        """Raises:
        Unfit: it can never be answered.
        ValueError: its sampling is out of bounds.
        """
        check_fit(request, limits)
        self.request = request
        self.arrived = arrived
        self.given = 0
        """Tokens that the reader got."""
        self.last = -1
        """The newest of them, which the slot does not hold yet."""
        self.last_at = arrived
        self.cancelled = False
        self._most = min(request.max_tokens, limits.positions - len(request.prompt))
        self._sampler = Sampler(request.sampling)

    @property
    def position(self) -> int:
        """Where the slot is to hold the newest token."""
        return len(self.request.prompt) + self.given - 1

    def over(self, now: float) -> bool:
        """Whether nothing is to be computed for it any more."""
        return self.cancelled or now - self.arrived >= self.request.within_s

    def cancel(self) -> None:
        """Nobody reads it: the next step ends it. Harmless when it has ended, and from any thread."""
        self.cancelled = True

    def grow(self, logits: Logits, ends: Collection[int], now: float) -> Piece:
        """The piece that the logits of its next token, [vocabulary], bring.

        Raises:
            NotFinite: they are no distribution.
        """
        token = self._sampler.draw(logits)
        if token in ends:
            return Piece((), "stop")
        self.last, self.last_at = token, now
        self.given += 1
        return Piece((token,), "length" if self.given == self._most else None)


class Line:
    """Who waits for a slot, in order of arrival. Any thread may join somebody; one takes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Answer] = deque()
        self._closed = ""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, answer: Answer) -> None:
        """It waits.

        Raises:
            QueueFull: as many wait as may.
            NotReady: nobody will be taken any more; says why.
        """
        with self._lock:
            if self._closed:
                raise NotReady(self._closed)
            if len(self._waiting) >= self._most:
                raise QueueFull(f"{self._most} requests wait already")
            self._waiting.append(answer)

    def take(self) -> Answer:
        """Who has waited longest waits no more; there must be somebody."""
        return self._waiting.popleft()

    def drop(self, which: Callable[[Answer], bool]) -> list[Answer]:
        """Those of whom it is true wait no more."""
        with self._lock:
            dropped: list[Answer] = []
            stay: deque[Answer] = deque()
            for answer in self._waiting:
                (dropped if which(answer) else stay).append(answer)
            self._waiting = stay
            return dropped

    def close(self, why: str) -> list[Answer]:
        """Nobody waits, and nobody may any more."""
        with self._lock:
            self._closed = why
            left, self._waiting = list(self._waiting), deque()
            return left
