"""A wait with a timeout, which a cancellation always ends."""

from __future__ import annotations

import asyncio

import pytest

from serving.waiting import with_timeout


def test_a_result_in_time_is_returned_and_an_error_raised() -> None:
    async def seven() -> int:
        return 7

    async def broken() -> int:
        raise ValueError("broken")

    assert asyncio.run(with_timeout(seven(), 60)) == 7
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(with_timeout(broken(), 60))


def test_an_awaitable_that_is_late_is_cancelled() -> None:
    async def go() -> None:
        coming = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            await with_timeout(coming, 0.01)
        assert coming.cancelled()

    asyncio.run(go())


@pytest.mark.parametrize("after", range(8))
def test_a_cancellation_together_with_the_result_is_not_swallowed(after: int) -> None:
    """Cancel at any number of turns of the event loop after the result."""

    async def go() -> bool:
        event = asyncio.Event()

        async def stay() -> None:
            await with_timeout(event.wait(), 60)
            await asyncio.Event().wait()

        waiting = asyncio.ensure_future(stay())
        await turns(10)
        event.set()
        await turns(after)
        waiting.cancel()
        await turns(10)
        return waiting.cancelled()

    assert asyncio.run(go())


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
