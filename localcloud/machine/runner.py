"""Process 1 of a box: mounts what the box needs, starts its services, reaps whatever is orphaned in it.

Run as a plain file with a specification (JSON) as its one argument, on a bare interpreter, as every box holds
one. With "restart" a service that ends is started again a second later, as systemd does it on a real node; without
it the end of any service is the end of the box: the kernel then kills every process of the namespace.
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
RESTART_AFTER = 1.0
WAIT_FOR_AT_MOST = 20.0


def keep_private(wanted: list[int]) -> None:
    """Only the wanted file descriptors reach the services: the cloud's lock must die with this process."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in wanted:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
                os.set_inheritable(number, False)


def raise_file_limit() -> None:
    """Services may open as many files as the machine lets this process: a shell's 1024 is too few for containers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def set_up(argv: list[str]) -> bool:
    """Whether the command ended with 0; if not, the box's log ends with what it said."""
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        print(f"{time.strftime('%H:%M:%S')} set-up failed: `{' '.join(argv)}` ended with {done.returncode}:", flush=True)
    print(done.stderr, end="", flush=True)
    return done.returncode == 0


def wait_for(path: str) -> None:
    """The file is there, or has not come in time: the service then starts all the same, and says itself what it lacks."""
    deadline = time.monotonic() + WAIT_FOR_AT_MOST
    while path and not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def start(service: dict[str, Any]) -> int:
    """The service runs in a session of its own with its output appended to its log; returns its pid."""
    wait_for(service.get("wait_for", ""))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    output = [(os.POSIX_SPAWN_OPEN, 1, service["log"], flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawnp(service["argv"][0], service["argv"], os.environ, file_actions=output, setsid=True)


def serve(services: list[dict[str, Any]], restart: bool) -> int:
    """Returns when a service ended that is not to be restarted: its exit code."""
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
    """The box, for as long as it lives."""
    with open(sys.argv[1], encoding="utf-8") as file:
        specification = json.load(file)
    raise_file_limit()
    keep_private(specification.get("fds", []))
    if not all(set_up(argv) for argv in specification.get("setup", [])):
        return 1
    return serve(specification["services"], specification["restart"])


if __name__ == "__main__":
    sys.exit(main())
