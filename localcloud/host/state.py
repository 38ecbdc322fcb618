"""Where a running cloud keeps what the host side reads: lock, environment for clients, state, logs. And its health.

The lock is the truth about whether a cloud runs: the cloud's own processes hold it, and the kernel lets go of it with
the last of them, however they end.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any

from localcloud import paths, settings
from localcloud.machine.box import write_private

LOCK = paths.RUN_DIR / "lock"
ENVIRONMENT = paths.RUN_DIR / "environment.json"
"""What `env` prints; holds a secret key, so mode 0600."""
STATE = paths.DATA_DIR / "state.json"
"""What `status` prints."""
LOGS = paths.DATA_DIR / "log"
_writing = threading.Lock()


def take_lock() -> int | None:
    """A file descriptor that holds the lock until it and all its copies are closed; None while a cloud runs."""
    paths.RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number


def write(path: Path, value: dict[str, Any]) -> None:
    """The file holds this value; a reader never sees half of it."""
    with _writing:
        os.replace(write_private(path.with_suffix(".new"), json.dumps(value)), path)


def read(path: Path) -> dict[str, Any] | None:
    """What was written; None when there is nothing."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return value


def unhealthy() -> str | None:
    """None when the AWS endpoint answers its health check, else what came instead."""
    # Not urllib: it would ask a proxy of the environment for an address that only this machine knows.
    connection = http.client.HTTPConnection(settings.AWS_HOST, settings.AWS_PORT, timeout=3)
    try:
        connection.request("GET", "/localcloud/health")
        response = connection.getresponse()
        return None if response.status == 200 else f"{response.status} {response.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
