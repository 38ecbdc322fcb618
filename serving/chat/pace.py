"""Limits how often the page is redrawn while an answer grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

from serving.waiting import with_timeout

T = TypeVar("T")

REDRAW_S = 0.1
"""Seconds between two updates: more are not visible, and one process serves many users."""
AGAIN_S = 1.0
"""Seconds after which an unchanged value is sent again: Gradio notices only when it sends that a page was closed, and then closes its
answer."""


async def paced(values: AsyncGenerator[T, None], every_s: float = REDRAW_S, again_s: float = AGAIN_S) -> AsyncGenerator[T, None]:
    """Yield the newest value, at most once in `every_s` and at least once in `again_s` seconds, and at the end the last one. Closing this
    generator closes `values`."""
    newest: list[T] = []
    news = asyncio.Event()  # a value has come, or none will come any more

    async def read() -> None:
        try:
            async with aclosing(values):
                async for value in values:
                    newest[:] = [value]
                    news.set()
        finally:
            news.set()

    reader = asyncio.create_task(read())
    try:
        while not reader.done():
            with suppress(asyncio.TimeoutError):
                await with_timeout(news.wait(), again_s)
            news.clear()
            for value in newest:
                yield value
            await asyncio.wait({reader}, timeout=every_s)
        await reader
        for value in newest:
            yield value
    finally:
        reader.cancel()
        await asyncio.wait({reader})
