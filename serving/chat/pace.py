"""How often a page is drawn while something grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

from serving.waiting import with_timeout

T = TypeVar("T")

REDRAW_S = 0.1
"""Between two drawings: more often nobody sees it, and many people are served by one process."""
AGAIN_S = 1.0
"""After which the same is drawn again: only then does Gradio notice that a page has gone, and closes its answer."""


async def paced(values: AsyncGenerator[T, None], every_s: float = REDRAW_S, again_s: float = AGAIN_S) -> AsyncGenerator[T, None]:
    """The newest value, at most once in `every_s`, at least once in `again_s`; at the end the last one. Closing it closes
    `values`."""
    newest: list[T] = []
    news = asyncio.Event()  # something has come, or nothing will any more

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
