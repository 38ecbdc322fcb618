"""A headless Chromium, driven over its DevTools protocol: pages that are drawn by scripts are looked at, clicked on and typed into.

Needs the locked environment and Debian's chromium.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from scripts.support.processes import Process, contained, kill_with_children

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_S = 60.0
"""For the browser to come up and to answer, and for a page to show what is waited for."""


class Page:
    """One tab of a browser, over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.requests: list[str] = []
        """Addresses that the page has asked for, in order; data: addresses, too."""

    async def open(self, url: str, width: int = 1400, height: int = 900, scale: float = 1, mobile: bool = False) -> None:
        """The page is on its way, in a window of this size; mobile: as a phone draws it."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Network.enable")
        await self.call("Page.navigate", url=url)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one DevTools command; raises RuntimeError with what the browser says against it."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), PATIENCE_S))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(str(message["params"]["request"]["url"]))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is worth on the page; raises RuntimeError with what it throws."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression:.100}: {found['exceptionDetails']['exception'].get('description', '?'):.300}")
        return found["result"].get("value")

    async def text(self) -> str | None:
        """What a reader of the page sees; None while it loads."""
        shown = "document.readyState == 'complete' ? (document.body?.innerText ?? document.documentElement.textContent) : null"
        text: str | None = await self.value(shown)
        return text

    async def until_shown(self, wanted: str) -> str:
        """The page's text, once `wanted` is in it; raises TimeoutError with its text when it never is."""
        deadline = time.monotonic() + PATIENCE_S
        while (text := await self.text()) is None or wanted not in text:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page did not show {wanted!r}, but: {text!r:.500}")
            await asyncio.sleep(0.1)
        return text

    async def until_true(self, expression: str) -> Any:
        """The worth of a JavaScript expression, once it is true; raises TimeoutError with the page's text when it never is."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := await self.value(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never on the page: {expression}; its text: {await self.text()!r:.500}")
            await asyncio.sleep(0.1)
        return found

    async def click(self, element: str) -> None:
        """The middle of an element, named by a JavaScript expression, was clicked on, once it was there."""
        await self.until_true(f"!!({element})")
        x, y = await self.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())")
        for what in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=what, button="left", clickCount=1, x=x, y=y)

    async def type(self, text: str) -> None:
        """The text was typed into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def enter(self) -> None:
        """The Enter key was pressed."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        taken = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(taken["data"])


def holding(text: str) -> str:
    """The last element that holds just this text, as a JavaScript expression."""
    every = "[...document.querySelectorAll('*')]"
    return f"{every}.filter(one => one.innerText?.trim() == {json.dumps(text)} && !one.children.length).at(-1)"


class Browser:
    """A browser that runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A new tab, closed afterwards."""
        tab = await asyncio.to_thread(self._ask, "PUT", "new")
        try:
            async with connect(tab["webSocketDebuggerUrl"], proxy=None, max_size=None) as socket:
                yield Page(socket)
        finally:
            await asyncio.to_thread(self._ask, "GET", f"close/{tab['id']}")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/{path}", method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else None


@asynccontextmanager
async def browser(program: str = "chromium") -> AsyncIterator[Browser]:
    """A browser with a profile of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as profile:
        command = contained([program, *FLAGS, f"--user-data-dir={profile}", "about:blank"])
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Browser(await _port(Path(profile) / "DevToolsActivePort", popen))
        finally:
            if process := Process.find(popen.pid):
                kill_with_children(process)
            popen.wait()


async def _port(file: Path, popen: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists() or not file.read_text().strip():
        if popen.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser did not come up (exit code {popen.poll()})")
        await asyncio.sleep(0.1)
    return int(file.read_text().split()[0])
