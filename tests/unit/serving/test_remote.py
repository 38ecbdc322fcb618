"""RemoteEngine's deadlines, retries and cancelled readers. The rest is tested on real Ray Serve, in tests/served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorUnavailableError
from ray.serve.exceptions import BackPressureError

from serving.engines.contract import DeadlineExceeded, GenerationFailed, NotReady, Piece, Request, Sampling
from serving.remote import RemoteEngine


class Handle:
    """A deployment's handle, as far as RemoteEngine uses it: one answer, with pieces that come when the test releases them."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self.cancelled = False
        self.asked = 0
        self.generate = self

    def options(self, stream: bool) -> Handle:
        return self

    def remote(self, request: Request) -> Handle:
        self.asked += 1
        return self

    def cancel(self) -> None:
        self.cancelled = True

    async def __anext__(self) -> Piece:
        piece = await self.pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece


def request(within_s: float = 60) -> Request:
    return Request("r", (1, 2), 1000, Sampling(temperature=0), within_s=within_s)


async def read(handle: Any, got: list[Piece], within_s: float = 60) -> None:
    pieces: AsyncIterator[Piece] = RemoteEngine(handle).generate(request(within_s))
    async for piece in pieces:
        got.append(piece)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", range(8))
def test_a_reader_cancelled_while_a_piece_arrives_ends_the_request(after: int) -> None:
    """Cancel the reader at any number of turns of the event loop after the piece."""

    async def test() -> None:
        handle, got = Handle(), list[Piece]()
        reader = asyncio.ensure_future(read(handle, got))
        await turns(10)
        handle.pieces.put_nowait(Piece((7,), None))
        await turns(after)
        reader.cancel()
        handle.pieces.put_nowait(Piece((8,), None))
        done, _ = await asyncio.wait((reader,), timeout=10)
        assert done
        assert reader.cancelled()
        assert handle.cancelled
        assert Piece((8,), None) not in got

    asyncio.run(test())


def test_an_engine_that_returns_nothing_in_time_is_given_up() -> None:
    async def test() -> None:
        handle = Handle()
        handle.pieces.put_nowait(Piece((7,), None))
        with pytest.raises(DeadlineExceeded, match="1 tokens"):
            await read(handle, [], within_s=0.01)
        assert handle.cancelled

    asyncio.run(test())


LOSSES = [
    ActorUnavailableError("gone", None),
    # A server that shuts down ends an accepted call like this.
    AioRpcError(StatusCode.CANCELLED, Metadata(), Metadata(), "the server goes"),
    AioRpcError(StatusCode.UNKNOWN, Metadata(), Metadata(), "stream removed"),
]


@pytest.mark.parametrize("error", [*LOSSES, BackPressureError(1, 1), RuntimeError("x")], ids=lambda error: type(error).__name__)
def test_an_engine_that_cannot_report_its_limits_is_not_ready(error: Exception) -> None:
    async def failing() -> None:
        raise error

    handle: Any = Handle()
    handle.ready = SimpleNamespace(remote=failing)
    with pytest.raises(NotReady, match="no engine answers"):
        asyncio.run(RemoteEngine(handle).ready())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_request_goes_to_another_engine_if_the_first_is_lost_before_its_first_token(loss: Exception) -> None:
    async def test() -> None:
        handle, got = Handle(), list[Piece]()
        for piece in (loss, Piece((7,), "length"), StopAsyncIteration()):
            handle.pieces.put_nowait(piece)
        await read(handle, got)
        assert got == [Piece((7,), "length")]
        assert handle.asked == 2

    asyncio.run(test())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_an_engine_lost_after_the_first_token_is_an_error_with_the_number_of_tokens(loss: Exception) -> None:
    async def test() -> None:
        handle = Handle()
        for piece in (Piece((7,), None), loss):
            handle.pieces.put_nowait(piece)
        with pytest.raises(GenerationFailed, match="the engine was lost after 1 tokens"):
            await read(handle, [])
        assert handle.asked == 1

    asyncio.run(test())
