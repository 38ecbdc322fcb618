"""Where a running cloud keeps what the host side reads: lock, environment for clients, state, logs. And its health.

Whether a cloud runs is decided by the lock alone: the cloud's own processes hold it, and the kernel releases it with
the last of them, however they end.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from localcloud import paths, settings
from localcloud.files import write_private
from localcloud.machine.processes import http_problem

LOCK = paths.RUN_DIR / "lock"
ENVIRONMENT = paths.RUN_DIR / "environment.json"
"""What `env` prints. It contains a secret key, hence mode 0600."""
STATE = paths.DATA_DIR / "state.json"
"""The facts that `status` prints."""
LOGS = paths.DATA_DIR / "log"
_writing = threading.Lock()


def take_lock() -> int | None:
    """Return a file descriptor that holds the lock until it and all its copies are closed; None while a cloud runs."""
    paths.RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number


def write(path: Path, value: dict[str, Any]) -> None:
    """Write the value as JSON; a reader never sees half of it."""
    with _writing:
        os.replace(write_private(path.with_suffix(".new"), json.dumps(value)), path)


def read(path: Path) -> dict[str, Any] | None:
    """Return what `write` wrote; None when there is no such file."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return value


def endpoint_problem() -> str | None:
    """Return None when the AWS endpoint answers its health check, else what came instead."""
    return http_problem(settings.AWS_HOST, settings.AWS_PORT, "/localcloud/health")
