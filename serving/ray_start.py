"""Settings of `ray start` for which it has no option: Ray calls `settings` because RAY_START_HOOK names it."""

from __future__ import annotations

from typing import Any


def settings(parameters: Any, head: bool) -> None:
    """Start no Ray Client server on the head: nothing here uses it, and it would delay a new head.

    `ray start` has no option for that: if gRPC is installed, it always uses port 10001.
    """
    if head:
        parameters.ray_client_server_port = None
