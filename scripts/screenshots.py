"""Pictures for the docs, of what a user sees: `python -m scripts.screenshots FOLDER NAME=URL[@WIDTHxHEIGHT][>CLICK ON][#WAIT FOR] …`.

A headless Chromium is driven over its DevTools protocol, because Prefect's pages are drawn by scripts that
ask the server, and are done only when their text is there. Needs the locked environment and Debian's chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from scripts.processes import Process, contained, kill_whole

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_S = 60.0
"""For a page to show the text that is waited for."""
SETTLE_S = 3.0
"""Then, for charts and fonts that move in."""


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


class Page:
    """The one page of a browser, over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one DevTools command; raises RuntimeError with what the browser says against it."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await asyncio.wait_for(self._socket.recv(), PATIENCE_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    async def text(self) -> str | None:
        """What a reader of the page sees; None while it loads."""
        shown = "document.readyState == 'complete' ? (document.body?.innerText ?? document.documentElement.textContent) : null"
        found = await self.call("Runtime.evaluate", expression=shown, returnByValue=True)
        text: str | None = found["result"].get("value")
        return text

    async def take(self, shot: Shot) -> bytes:
        """The picture, as PNG; raises TimeoutError with the page's text when it never shows what is waited for."""
        await self.call("Emulation.setDeviceMetricsOverride", width=shot.width, height=shot.height, deviceScaleFactor=1, mobile=False)
        await self.call("Page.navigate", url=shot.url)
        if shot.click:
            await self._until_shown(shot, shot.click)
            await asyncio.sleep(SETTLE_S)
            await self._click(shot.click)
        await self._until_shown(shot, shot.text)
        await asyncio.sleep(SETTLE_S)
        picture = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])

    async def _click(self, text: str) -> None:
        found = await self.call("Runtime.evaluate", expression=_MIDDLE % json.dumps(text), returnByValue=True)
        where = dict(zip("xy", found["result"]["value"], strict=True))
        for what in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=what, button="left", clickCount=1, **where)

    async def _until_shown(self, shot: Shot, wanted: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (text := await self.text()) is None or wanted not in text:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{shot.url} did not show {wanted!r}, but: {text!r:.500}")
            await asyncio.sleep(0.25)


_MIDDLE = """(text => {
  const found = [...document.querySelectorAll('*')].filter(one => one.innerText?.trim() == text && !one.children.length)
  const box = found[found.length - 1].getBoundingClientRect()
  return [box.x + box.width / 2, box.y + box.height / 2]
})(%s)"""
"""The middle of the last element that holds just this text."""


@asynccontextmanager
async def browser(program: str = "chromium") -> AsyncIterator[Page]:
    """A browser with a profile of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as profile:
        command = contained([program, *FLAGS, f"--user-data-dir={profile}", "about:blank"])
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", popen)
            async with connect(_page_address(port), proxy=None, max_size=None) as socket:
                yield Page(socket)
        finally:
            if process := Process.of(popen.pid):
                kill_whole(process)
            popen.wait()


async def _port(file: Path, popen: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists() or not file.read_text().strip():
        if popen.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser did not come up (exit code {popen.poll()})")
        await asyncio.sleep(0.1)
    return int(file.read_text().split()[0])


def _page_address(port: int) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        return str(next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page"))


async def take_all(shots: Sequence[Shot], folder: Path) -> None:
    """Every picture is in the folder as NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    async with browser() as page:
        for shot in shots:
            (folder / f"{shot.name}.png").write_bytes(await page.take(shot))
            print(folder / f"{shot.name}.png", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shots", nargs="+", type=Shot.parse, metavar="NAME=URL[@WIDTHxHEIGHT][>CLICK][#TEXT]")
    chosen = parser.parse_args(arguments)
    asyncio.run(take_all(chosen.shots, chosen.folder))


if __name__ == "__main__":
    main()
