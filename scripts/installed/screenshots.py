"""Pictures for the docs: `python -m scripts.installed.screenshots FOLDER NAME=URL[@WIDTHxHEIGHT][>CLICK ON][#WAIT FOR] …`.

The pages are drawn by scripts that ask a server, and are done only when their text is there.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.installed.browser import Page, browser, holding

SETTLE_S = 3.0
"""After the text is there, for charts and fonts that move in."""


@dataclass(frozen=True)
class Shot:
    """One picture to take."""

    name: str
    url: str
    width: int = 1400
    height: int = 900
    click: str = ""
    """Text of a tab or button to click on, once the page shows it."""
    text: str = ""
    """Wait until the page shows it."""

    @classmethod
    def parse(cls, given: str) -> Shot:
        """From `NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]`; raises ValueError for anything else."""
        found = re.fullmatch(r"([\w-]+)=((?:https?|file)://[^@#>]+)(?:@(\d+)x(\d+))?(?:>([^#]+))?(?:#(.+))?", given)
        if not found:
            raise ValueError(f"not NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]: {given!r}")
        name, url, width, height, click, text = found.groups()
        size = {"width": int(width), "height": int(height)} if width else {}
        return cls(name, url, click=click or "", text=text or "", **size)


async def take(page: Page, shot: Shot) -> bytes:
    """The picture, as PNG; raises TimeoutError with the page's text when it never shows what is waited for."""
    await page.open(shot.url, shot.width, shot.height)
    if shot.click:
        await page.until_shown(shot.click)
        await asyncio.sleep(SETTLE_S)
        await page.click(holding(shot.click))
    await page.until_shown(shot.text)
    await asyncio.sleep(SETTLE_S)
    return await page.picture()


async def take_all(shots: Sequence[Shot], folder: Path) -> None:
    """Every picture is in the folder as NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    async with browser() as chromium:
        for shot in shots:
            async with chromium.page() as page:
                (folder / f"{shot.name}.png").write_bytes(await take(page, shot))
            print(folder / f"{shot.name}.png", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shots", nargs="+", type=Shot.parse, metavar="NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]")
    chosen = parser.parse_args(arguments)
    asyncio.run(take_all(chosen.shots, chosen.folder))


if __name__ == "__main__":
    main()
