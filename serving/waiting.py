"""A wait with an end. Not asyncio.wait_for: before Python 3.12 that swallows a cancellation that comes together with what is
waited for, and whoever left is worked for to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def in_time(coming: Awaitable[T], seconds: float) -> T:
    """What comes; it is cancelled when this ends before it.

    Raises:
        asyncio.TimeoutError: it did not come.
    """
    task = asyncio.ensure_future(coming)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise asyncio.TimeoutError
