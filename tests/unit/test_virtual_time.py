"""Virtual time: the clock jumps to the next timer, and never before what it would have to wait for."""

from __future__ import annotations

import asyncio
import time

import pytest
import virtual_time


def test_the_clock_jumps_to_each_timer_in_turn() -> None:
    async def go() -> list[float]:
        begun, found = virtual_time.loop().time(), list[float]()

        async def one(seconds: float) -> None:
            await asyncio.sleep(seconds)
            found.append(virtual_time.clock().now() - begun)

        await asyncio.gather(*(one(seconds) for seconds in (3600.0, 0.001, 86_400.0 * 300)))
        return found

    assert virtual_time.run(go()) == pytest.approx([0.001, 3600.0, 86_400.0 * 300], abs=1e-6)


def test_no_timer_is_over_before_a_thread_has_ended() -> None:
    async def go() -> str:
        return await asyncio.wait_for(asyncio.to_thread(lambda: time.sleep(0.05) or "ended"), 0.001)

    assert virtual_time.run(go()) == "ended"


def test_no_timer_is_over_before_data_has_been_read() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def go() -> tuple[int, float]:
        server, begun = await asyncio.start_server(serve, "127.0.0.1", 0), virtual_time.loop().time()
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * 2**24)  # more than sockets hold
            writer.write_eof()
            data = await asyncio.wait_for(reader.read(), 0.001)
            writer.close()
        return len(data), virtual_time.loop().time() - begun

    assert virtual_time.run(go()) == (2**24, 0.0)


def test_what_no_server_of_the_loop_serves_is_refused() -> None:
    async def go() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        server.close()
        await asyncio.open_connection(*address)

    with pytest.raises(ConnectionRefusedError):
        virtual_time.run(go())


def test_a_test_that_would_never_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "TURNS", 100)

    async def go() -> None:
        while True:
            await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError, match="100 turns of the loop"):
        virtual_time.run(go())


def test_timers_come_before_what_arrived_while_the_process_stood_still() -> None:
    async def go() -> list[str]:
        found = list[str]()
        server = await asyncio.start_server(lambda _, writer: [writer.write(b"x"), writer.close()], "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        async def reads() -> None:
            await reader.read(1)
            found.append("read")

        virtual_time.loop().call_later(2, found.append, "timer")
        virtual_time.loop().stand_still(3)
        await reads()
        server.close()
        writer.close()
        return found

    assert virtual_time.run(go()) == ["timer", "read"]
