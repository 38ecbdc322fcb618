"""Takes pictures for the docs: `python -m scripts.installed.screenshots FOLDER NAME=URL[@WIDTHxHEIGHT][>CLICK ON][#WAIT FOR] …`.

Scripts render the pages after requests to a server, so a page is complete only when its text is there.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Page, expect

from scripts.installed.browser import browser

SETTLE_S = 3.0
"""Seconds to wait after the text is there, for charts and fonts that appear later."""


@dataclass(frozen=True)
class Shot:
    """One picture to take."""

    name: str
    url: str
    width: int = 1400
    height: int = 900
    click: str = ""
    """Text of a tab or button to click on once the page shows it."""
    text: str = ""
    """Text to wait for before the picture is taken."""

    @classmethod
    def parse(cls, given: str) -> Shot:
        """Parse `NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]`; raises ValueError for anything else."""
        found = re.fullmatch(r"([\w-]+)=((?:https?|file)://[^@#>]+)(?:@(\d+)x(\d+))?(?:>([^#]+))?(?:#(.+))?", given)
        if not found:
            raise ValueError(f"not NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]: {given!r}")
        name, url, width, height, click, text = found.groups()
        size = {"width": int(width), "height": int(height)} if width else {}
        return cls(name, url, click=click or "", text=text or "", **size)


async def take(page: Page, shot: Shot, file: Path) -> None:
    """Save the picture as PNG; raises AssertionError with the page's text when the awaited text never appears."""
    await page.goto(shot.url)
    if shot.click:
        await expect(page.get_by_text(shot.click, exact=True).last).to_be_visible()
        await asyncio.sleep(SETTLE_S)
        await page.get_by_text(shot.click, exact=True).last.click()
    await expect(page.locator("body")).to_contain_text(shot.text, use_inner_text=True)
    await asyncio.sleep(SETTLE_S)
    await page.screenshot(path=file)


async def take_all(shots: Sequence[Shot], folder: Path) -> None:
    """Save every picture in the folder as NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    async with browser() as chromium:
        for shot in shots:
            async with await chromium.new_page(viewport={"width": shot.width, "height": shot.height}) as page:
                await take(page, shot, folder / f"{shot.name}.png")
            print(folder / f"{shot.name}.png", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the module describes."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shots", nargs="+", type=Shot.parse, metavar="NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]")
    chosen = parser.parse_args(arguments)
    asyncio.run(take_all(chosen.shots, chosen.folder))


if __name__ == "__main__":
    main()
