"""Waiting with a timeout. Not asyncio.wait_for: before Python 3.12 it swallows a cancellation that arrives together with the result,
and the work for a client that has left goes on to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def with_timeout(awaitable: Awaitable[T], seconds: float) -> T:
    """Return the result of the awaitable, which is cancelled if this call ends first.

    Raises:
        asyncio.TimeoutError: there was no result in time.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise asyncio.TimeoutError
