"""Waiting for something to become true, in tests that look from the outside."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(observe: Callable[[], object], wanted: object = True, what: str = "", within_s: float = 120.0) -> None:
    """Call `observe` until it returns `wanted`; AssertionError with the last observation after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while (seen := observe()) != wanted:
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what or repr(wanted)}; last observation: {seen!r}"
        time.sleep(0.1)
