"""A headless Chromium that is driven over its DevTools protocol, for pages that are rendered by scripts. Needs Debian's chromium."""

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

from scripts.services.prefect_api import DIRECT
from scripts.support.processes import Process, contained, kill_with_children

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0",
)  # fmt: skip
TIMEOUT_S = 60.0
"""Seconds for the browser to start or to answer, and for a page to show what is waited for."""


class Page:
    """One tab of a browser, driven over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.requests: list[str] = []
        """URLs that the page has requested, in order; including data: URLs."""

    async def open(self, url: str, width: int = 1400, height: int = 900, scale: float = 1, mobile: bool = False) -> None:
        """Start loading the URL in a viewport of this size in CSS pixels; `mobile`: as a phone renders it."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Network.enable")
        await self.call("Page.navigate", url=url)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result; raises RuntimeError with the browser's message when it fails."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), TIMEOUT_S))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(str(message["params"]["request"]["url"]))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    async def value(self, expression: str) -> Any:
        """Evaluate a JavaScript expression on the page; raises RuntimeError with the exception that it throws."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression:.100}: {found['exceptionDetails']['exception'].get('description', '?'):.300}")
        return found["result"].get("value")

    async def text(self) -> str | None:
        """Return the visible text of the page; None while it loads."""
        shown = "document.readyState == 'complete' ? (document.body?.innerText ?? document.documentElement.textContent) : null"
        text: str | None = await self.value(shown)
        return text

    async def until_shown(self, wanted: str) -> str:
        """Wait until the page's text contains `wanted` and return it; raises TimeoutError with the last text."""
        deadline = time.monotonic() + TIMEOUT_S
        while (text := await self.text()) is None or wanted not in text:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page did not show {wanted!r}, but: {text!r:.500}")
            await asyncio.sleep(0.1)
        return text

    async def until_true(self, expression: str) -> Any:
        """Wait until a JavaScript expression is truthy and return its value; raises TimeoutError with the page's text."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := await self.value(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true on the page: {expression}; its text: {await self.text()!r:.500}")
            await asyncio.sleep(0.1)
        return found

    async def click(self, element: str) -> None:
        """Wait for an element, given as a JavaScript expression, and click on its centre."""
        await self.until_true(f"!!({element})")
        x, y = await self.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())")
        for what in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=what, button="left", clickCount=1, x=x, y=y)

    async def type(self, text: str) -> None:
        """Type the text into the focused element."""
        await self.call("Input.insertText", text=text)

    async def enter(self) -> None:
        """Press the Enter key."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    async def screenshot(self) -> bytes:
        """Return the viewport's content as PNG."""
        taken = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(taken["data"])


def element_with(text: str) -> str:
    """Return a JavaScript expression for the last element that contains exactly this text."""
    every = "[...document.querySelectorAll('*')]"
    return f"{every}.filter(one => one.innerText?.trim() == {json.dumps(text)} && !one.children.length).at(-1)"


class Browser:
    """A running browser."""

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """Open a new tab, closed afterwards."""
        tab = await asyncio.to_thread(self._request, "PUT", "new")
        try:
            async with connect(tab["webSocketDebuggerUrl"], proxy=None, max_size=None) as socket:
                yield Page(socket)
        finally:
            await asyncio.to_thread(self._request, "GET", f"close/{tab['id']}")

    def _request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/{path}", method=method)
        with DIRECT.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else None


@asynccontextmanager
async def browser(program: str = "chromium") -> AsyncIterator[Browser]:
    """Start a browser with a profile of its own; both are gone afterwards."""
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
    deadline = time.monotonic() + TIMEOUT_S
    while not file.exists() or not file.read_text().strip():
        if popen.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser did not come up (exit code {popen.poll()})")
        await asyncio.sleep(0.1)
    return int(file.read_text().split()[0])
