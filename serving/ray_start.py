"""What `ray start` is told beyond its options: Ray calls `settings` when RAY_START_HOOK names it."""

from __future__ import annotations

from typing import Any


def settings(parameters: Any, head: bool) -> None:
    """Start no server for Ray's own client: nothing here uses it, and a new head has better use for its first seconds.

    `ray start` has no option for that: where gRPC is installed it takes port 10001.
    """
    if head:
        parameters.ray_client_server_port = None
