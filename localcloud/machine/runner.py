"""Process 1 of a box: mounts what the box needs, starts its services, reaps orphaned processes.

It runs as a plain file on a bare interpreter, with the path of a specification (JSON) as its one argument, because
every box has such a process. With "restart" a service that ends is started again a second later, as systemd does on
a real node. Without it the end of any service ends the box: the kernel then kills every process of the namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

FILES = 2**20
"""Limit on open files per process, where the machine has none."""
RESTART_AFTER = 1.0
WAIT_FOR_AT_MOST = 20.0
"""Seconds for which the start of a service waits for the file that it needs."""


def keep_private(wanted: list[int]) -> None:
    """Let services inherit only the wanted file descriptors: the cloud's lock must be released when this process ends."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in wanted:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
                os.set_inheritable(number, False)


def raise_file_limit() -> None:
    """Let services open as many files as this process may: the usual 1024 are too few for containers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def set_up(argv: list[str]) -> bool:
    """Run the command; return whether it ended with 0. If not, the box's log ends with its error output."""
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        print(f"{time.strftime('%H:%M:%S')} set-up failed: `{' '.join(argv)}` ended with {done.returncode}:", flush=True)
    print(done.stderr, end="", flush=True)
    return done.returncode == 0


def wait_for(path: str) -> None:
    """Return when the file exists, or after WAIT_FOR_AT_MOST: then the service starts anyway, and reports itself what is missing."""
    deadline = time.monotonic() + WAIT_FOR_AT_MOST
    while path and not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def start(service: dict[str, Any]) -> int:
    """Start the service in a session of its own, its output appended to its log; return its pid."""
    wait_for(service.get("wait_for", ""))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    output = [(os.POSIX_SPAWN_OPEN, 1, service["log"], flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawnp(service["argv"][0], service["argv"], os.environ, file_actions=output, setsid=True)


def serve(services: list[dict[str, Any]], restart: bool) -> int:
    """Start the services and reap processes. Return when a service ends and must not be restarted, with its exit code."""
    running = {start(service): service for service in services}
    while True:
        pid, status = os.wait()
        service = running.pop(pid, None)
        if service is None:
            continue
        code = os.waitstatus_to_exitcode(status)
        print(f"{time.strftime('%H:%M:%S')} {service['name']} ended with {code}", flush=True)
        if not restart:
            return code if code >= 0 else 128 - code
        time.sleep(RESTART_AFTER)
        running[start(service)] = service


def main() -> int:
    """Run the box until it ends; return its exit code."""
    with open(sys.argv[1], encoding="utf-8") as file:
        specification = json.load(file)
    raise_file_limit()
    keep_private(specification.get("fds", []))
    if not all(set_up(argv) for argv in specification.get("setup", [])):
        return 1
    return serve(specification["services"], specification["restart"])


if __name__ == "__main__":
    sys.exit(main())
