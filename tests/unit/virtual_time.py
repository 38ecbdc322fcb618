"""An event loop whose clock jumps: servers and loads of a test run for minutes, which take as long as their computing and no longer.

All that a test connects to runs in the same loop, so data that was written can be read at once. When nothing can be read and nothing is
left to do, nothing happens before the next timer, and the clock goes there. How busy the machine is changes no time that a test sees.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from drills.load.clock import Clock

T = TypeVar("T")
BEGIN = 1_790_000_000.0
"""Time at which every loop begins, in seconds since the epoch."""
TURNS = 200_000
"""Turns of a loop after which its test has failed: it never waits, so a time-out that comes as a signal would end only one of its tasks."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualLoop
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready. Where the loop would wait for its next timer, the clock jumps; for threads it really waits."""
        self.turns += 1
        if self.turns > TURNS:
            self.turns = 0  # its tasks are cancelled, which takes some more
            raise TimeoutError(f"{TURNS:,} turns of the loop were not enough; its time is {self.loop.now - BEGIN:g} s")
        if skipped := self.loop.skipped_s:
            self.loop.skipped_s = 0.0
            self.loop.now += skipped
            return []
        if timeout is None or (timeout > 0 and self.loop.in_threads):
            return super().select(None)
        if not (ready := super().select(0)):
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. Connections to its own servers are pairs of sockets, whose data, unlike TCP's, is never on its way."""

    def __init__(self) -> None:
        self.now, self.skipped_s = BEGIN, 0.0
        self.in_threads = set[asyncio.Future[Any]]()
        """What threads compute, and name servers are asked."""
        self._served: dict[int, tuple[asyncio.Server, Any]] = {}
        """Port → server, and what makes a protocol for each of its connections."""
        self._accepting = set[asyncio.Task[Any]]()
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        # Timers that are so close count as due. Less than a float can tell at this time would let the loop turn for ever.
        self._clock_resolution = math.ulp(BEGIN)

    def time(self) -> float:
        """Return the virtual time, in seconds since the epoch."""
        return self.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass without the process, as if it were stopped just after it has asked what there is to read."""
        self.skipped_s += seconds

    def run_in_executor(self, *arguments: Any) -> Any:
        """Run a function in a thread; the clock stands until it has ended."""
        future = super().run_in_executor(*arguments)
        self.in_threads.add(future)
        future.add_done_callback(self.in_threads.discard)
        return future

    async def shutdown_default_executor(self, *_: Any) -> None:
        """Wait for all threads, however long that takes: a deadline would be over at once."""
        await super().shutdown_default_executor()

    async def create_server(self, protocol_factory: Any, *arguments: Any, **more: Any) -> Any:
        """Serve on a port."""
        server = await super().create_server(protocol_factory, *arguments, **more)
        self._served.update({sock.getsockname()[1]: (server, protocol_factory) for sock in server.sockets})
        return server

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Connect to a server of this loop; there are no others."""
        server, accepted = self._served.get(port, (None, None))
        if server is None or not server.is_serving():
            raise ConnectionRefusedError(f"nothing in this loop serves on {host}:{port}")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        accepting = self.create_task(self.connect_accepted_socket(accepted, theirs))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepting.discard)
        ours.setblocking(False)
        return await super().create_connection(protocol_factory, sock=ours)


class _LoopsClock(Clock):
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Return the time of the loop."""
        return self._loop.now


def clock() -> Clock:
    """Return the clock of a load in the running loop."""
    loop = asyncio.get_running_loop()
    return _LoopsClock(loop) if isinstance(loop, VirtualLoop) else Clock()


def loop() -> VirtualLoop:
    """Return the running loop, which must be one in virtual time."""
    found = asyncio.get_running_loop()
    assert isinstance(found, VirtualLoop)
    return found


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time, in place of `asyncio.run`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
