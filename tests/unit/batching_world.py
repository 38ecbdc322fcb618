"""A batching engine over an exact one that can be paused, on a real event loop."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from exact_engine import ExactEngine

from serving.engines.batching import BatchingEngine
from serving.engines.callbacks import EngineCallbacks
from serving.engines.contract import EngineError, Limits, Piece, Request, Sampling

LIMITS = Limits(slots=4, positions=64, max_prompt=16, vocabulary=64, min_prompt=2)
PATIENCE_S = 60.0
Answered = tuple[tuple[int, ...], str | None]
"""The tokens of an answer and its finish reason."""
GREEDY = Sampling(temperature=0)


class Gated(ExactEngine):
    """An exact engine with a gate before each step; the gate is open at first."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.at_gate = False
        self._may_pass = math.inf
        self._changed = threading.Condition()

    def let_pass(self, steps: float) -> None:
        with self._changed:
            self._may_pass = steps
            self.at_gate &= not steps
            self._changed.notify_all()

    def _called(self, what: str, slots: tuple[int, ...]) -> None:
        super()._called(what, slots)
        with self._changed:
            self.at_gate = not self._may_pass
            assert self._changed.wait_for(lambda: self._may_pass, PATIENCE_S)
            self._may_pass -= 1
            self.at_gate = False


class World:
    """The tested engine and, once it was built, the exact one under it. By default no token ends an answer."""

    def __init__(
        self,
        ends: frozenset[int] = frozenset(),
        max_queue: int = 8,
        stuck_after_s: float = PATIENCE_S,
        callbacks: EngineCallbacks | None = None,
        build: Callable[[], Gated] = lambda: Gated(LIMITS),
    ) -> None:
        self._make = build
        self.engine = BatchingEngine(self._build, ends, max_queue, stuck_after_s, callbacks)
        self.exact: Gated

    def _build(self) -> Gated:
        self.exact = self._make()
        return self.exact

    def ask(self, *prompt: int, tokens: int = 40) -> AsyncIterator[Piece]:
        return self.engine.generate(Request("r", prompt or (2, 3), tokens, GREEDY))

    def hold(self, after: int = 0) -> None:
        """Let this number of steps pass; the next one waits at the gate."""
        self.exact.let_pass(after)

    async def held(self) -> None:
        """Wait until a step is at the gate and the loop has the results of all steps before it."""
        await until(lambda: self.exact.at_gate)
        await asyncio.sleep(0)

    async def together(self, *readers: Coroutine[Any, Any, Answered], steps: int) -> list[asyncio.Task[Answered]]:
        """Submit all requests before the first step, then let `steps` steps pass; the next one waits at the gate."""
        self.hold()
        tasks = [asyncio.ensure_future(reader) for reader in readers]
        await until(lambda: self.engine.stats().queued == len(tasks) - 1 and self.exact.at_gate)
        self.hold(after=steps)
        await self.held()
        return tasks

    def release(self) -> None:
        self.exact.let_pass(math.inf)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Start the engine, and stop it when the context is left."""
    world.engine.start()
    await world.engine.ready()
    try:
        yield world
    finally:
        world.release()
        # Even if a test sets a short time for a stuck step: the last step, which is not paused any more, ends.
        world.engine._stuck_after_s = PATIENCE_S
        await world.engine.stop()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


async def read(pieces: AsyncIterator[Piece]) -> Answered:
    """Return the complete answer and its finish reason."""
    tokens: list[int] = []
    finish = None
    async for piece in pieces:
        assert finish is None
        tokens += piece.tokens
        finish = piece.finish
    return tuple(tokens), finish


async def read_to_error(pieces: AsyncIterator[Piece]) -> tuple[tuple[int, ...], EngineError]:
    """Return the tokens that came, and the error after them."""
    tokens: list[int] = []
    try:
        async for piece in pieces:
            tokens += piece.tokens
    except EngineError as error:
        return tuple(tokens), error
    raise AssertionError("the answer is whole")


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end; fail if it takes too long."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), PATIENCE_S)

    asyncio.run(bounded())
