"""Debian's Chromium, headless and driven by Playwright, for pages that are rendered by scripts."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

TIMEOUT_MS = 60_000
"""Milliseconds for a page to show what is waited for. No test asserts a duration, so this is generous."""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start a browser. Playwright talks to it through a pipe, so it ends with this process too, however that ends."""
    expect.set_options(timeout=TIMEOUT_MS)
    program = shutil.which("chromium") or "chromium"
    async with async_playwright() as playwright, await playwright.chromium.launch(executable_path=program) as chromium:
        yield chromium
