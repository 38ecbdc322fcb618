"""Limits on how often the page is redrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from serving.chat.pace import paced

NEVER_S = 3600.0


async def all_of(values: AsyncGenerator[int, None], every_s: float, again_s: float = NEVER_S) -> list[int]:
    return [value async for value in paced(values, every_s, again_s)]


def test_values_that_come_at_once_are_drawn_once_and_the_last_one_is_drawn() -> None:
    async def burst() -> AsyncGenerator[int, None]:
        for value in range(1000):
            yield value

    assert set(asyncio.run(all_of(burst(), NEVER_S))) == {999}


def test_values_that_come_slowly_are_all_drawn() -> None:
    async def go() -> list[int]:
        drawn = asyncio.Event()
        seen = []

        async def steps() -> AsyncGenerator[int, None]:
            for value in range(5):
                yield value
                await drawn.wait()
                drawn.clear()

        async for value in paced(steps(), 0, NEVER_S):
            seen.append(value)
            drawn.set()
        return seen

    assert sorted(set(asyncio.run(go()))) == [0, 1, 2, 3, 4]


def test_a_value_is_drawn_again_while_no_new_one_comes() -> None:
    async def go() -> list[int]:
        async def stalled() -> AsyncGenerator[int, None]:
            yield 7
            await asyncio.Event().wait()

        seen: list[int] = []
        async for value in paced(stalled(), 0, 0.01):
            seen.append(value)
            if len(seen) == 3:
                return seen
        raise AssertionError("it ended")

    assert asyncio.run(go()) == [7, 7, 7]


def test_an_error_is_raised_after_the_values_before_it() -> None:
    async def fails() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("broken")

    async def go(seen: list[int]) -> None:
        async for value in paced(fails(), 0, NEVER_S):
            seen.append(value)

    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(go(seen))
    assert seen[:1] == [1]


def test_closing_the_paced_generator_closes_its_source() -> None:
    closed = []

    async def stalled() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def go() -> None:
        drawing = paced(stalled(), 0, NEVER_S)
        assert await anext(drawing) == 1
        await drawing.aclose()
        assert closed == [True]

    asyncio.run(go())


@pytest.mark.parametrize("after", range(8))
def test_a_reader_cancelled_while_a_value_arrives_ends(after: int) -> None:
    """Cancel the reader at any number of turns of the event loop after the value."""

    async def go() -> None:
        coming, seen = asyncio.Queue[int](), list[int]()

        async def values() -> AsyncGenerator[int, None]:
            while True:
                yield await coming.get()

        async def read() -> None:
            async for value in paced(values(), NEVER_S, NEVER_S):
                seen.append(value)

        reader = asyncio.ensure_future(read())
        await turns(10)
        coming.put_nowait(1)
        await turns(after)
        reader.cancel()
        await turns(10)
        assert reader.cancelled()

    asyncio.run(go())


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
