"""A text engine made of any step engine: one thread computes, and an event loop reads the answers.

The step engine is built, called and closed in the thread, and nowhere else. The results of a step go to the loop in one call, for any
number of streams. A reader that is slower than the engine gets all that has come as one piece, so it delays no other reader, and no
more than its own answer is ever kept for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import closing

from serving.engines.answers import Answer
from serving.engines.callbacks import EngineCallbacks, Stats
from serving.engines.contract import Limits, NotReady, Piece, Request, Sampling, StepEngine
from serving.engines.readers import Reader
from serving.engines.sampling import Sampler
from serving.engines.scheduler import Event, Scheduler

STOPPED = "the engine was stopped"

log = logging.getLogger(__name__)


class BatchingEngine:
    """Answers requests with the step engine that `build` makes. Call its methods on the event loop that `start` was called on."""

    def __init__(
        self,
        build: Callable[[], StepEngine],
        ends: Collection[int],
        max_queue: int,
        stuck_after_s: float,
        callbacks: EngineCallbacks | None = None,
    ) -> None:
        """Create the engine; nothing is built yet.

        Args:
            ends: the tokens that end an answer.
            max_queue: requests that may wait when no slot is free.
            stuck_after_s: seconds that a step may take.
        """
        self._build = build
        self._ends = frozenset(ends)
        self._max_queue = max_queue
        self._stuck_after_s = stuck_after_s
        self._callbacks = callbacks
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._wake = threading.Event()
        self._stopping = False
        self._step_began: float | None = None
        self._loop: asyncio.AbstractEventLoop
        self._settled = asyncio.Event()
        self._scheduler: Scheduler | None = None
        self._down = "the engine was not started"
        self._readers: dict[Answer, Reader] = {}

    def start(self) -> None:
        """Start the thread, which builds the step engine and warms it up; `ready` returns after that. Call once, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._down = "the engine is starting"
        self._thread.start()

    async def ready(self) -> Limits:
        """Wait for the end of the start, and return the engine's limits.

        Raises:
            NotReady: the engine was not started, failed to start, was stopped, or fails `check`; the message says which.
        """
        if self._thread.ident is not None:
            await self._settled.wait()
        self.check()
        return self._working().limits

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the answer as it grows. Closing the iterator, or cancelling its reader, frees the slot with the next step.

        Raises:
            Unfit, QueueFull, NotReady: before the first piece; nothing is computed for the request.
            EngineError: any other, after the tokens that were yielded before it.
            ValueError: the sampling is out of bounds.
        """
        answer = self._working().submit(request)
        reader = self._readers[answer] = Reader(request.whole)
        self._wake.set()
        try:
            finish = None
            while finish is None:
                piece = await reader.next()
                finish = piece.finish
                yield piece
        finally:
            del self._readers[answer]
            answer.cancel()

    def check(self) -> None:
        """Return while the engine starts or works. Any thread may call this.

        Raises:
            NotReady: the engine is stopped or broken, or a step does not end.
        """
        began = self._step_began
        if began is not None and time.monotonic() - began > self._stuck_after_s:
            raise NotReady(f"the engine is stuck: a step has taken more than {self._stuck_after_s:g} s")
        if not self._thread.is_alive():
            raise NotReady(self._down or "the engine's thread has ended")
        if self._settled.is_set():
            self._working()

    def stats(self) -> Stats:
        """Return how much work there is and was. Any thread may call this."""
        return self._scheduler.stats() if self._scheduler else Stats()

    async def stop(self) -> None:
        """End all answers with NotReady, wait for the step under way, and close the step engine.

        Raises:
            NotReady: the step does not end; the thread then lives until the process ends.
        """
        self._mark_down(STOPPED)
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, self._stuck_after_s)
        if self._thread.is_alive():
            raise NotReady(f"the engine is stuck: its last step has taken more than {self._stuck_after_s:g} s")

    def _working(self) -> Scheduler:
        if self._down or self._scheduler is None:
            raise NotReady(self._down)
        if self._scheduler.broken:
            raise NotReady(self._scheduler.broken)
        return self._scheduler

    # Methods that run in the event loop; the thread calls them by `_call_in_loop`.

    def _mark_ready(self) -> None:
        if not self._stopping:
            self._down = ""
        self._settled.set()

    def _mark_down(self, why: str) -> None:
        """End all answers. The reason of the first call stays: later ones are its consequence."""
        if not self._stopping:
            self._down = why
        self._settled.set()
        for reader in self._readers.values():
            reader.put(NotReady(why))

    def _deliver(self, events: list[Event]) -> None:
        for answer, what in events:
            if answer in self._readers:
                self._readers[answer].put(what)

    # Methods that run in the thread.

    def _run(self) -> None:
        why = STOPPED
        try:
            with closing(self._build()) as engine:
                self._compute(engine)
        except BaseException as error:
            log.exception("the engine's thread ends")
            why = f"the engine cannot go on ({type(error).__name__})"
        finally:
            self._step_began = None
            self._call_in_loop(self._mark_down, why)

    def _compute(self, engine: StepEngine) -> None:
        warm_up(engine)
        self._scheduler = Scheduler(engine, self._ends, self._max_queue, time.monotonic, self._callbacks)
        self._call_in_loop(self._mark_ready)
        while not self._stopping:
            self._wake.clear()
            if self._scheduler.busy:
                self._step(self._scheduler)
            elif not self._stopping:
                self._wake.wait()

    def _step(self, scheduler: Scheduler) -> None:
        self._step_began = time.monotonic()
        events = scheduler.step()
        self._step_began = None
        if events:
            self._call_in_loop(self._deliver, events)

    def _call_in_loop(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:  # the loop is closed: no reader is left
            self._stopping = True


def warm_up(engine: StepEngine) -> None:
    """Compute the longest prompt and one token after it: proves that there is memory for it, and does what is slow the first time.

    Raises:
        NotFinite: the logits are not a distribution.
        Exception: whatever the engine raised.
    """
    longest, greedy = engine.limits.longest_prompt, Sampler(Sampling(temperature=0))
    token = greedy.draw(engine.prefill(0, [0] * longest))
    greedy.draw(engine.decode([0], [token], [longest])[0])
