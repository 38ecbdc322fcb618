"""Commands that end by themselves, waits, and health checks. Each has a time limit, and its error names what was seen last.

What fails raises `MachineError`, because it becomes the failure reason of an AWS resource.
"""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Callable, Sequence

from localcloud.machine.interface import MachineError

_ANSWER_WITHIN = 3.0


def run_command(argv: Sequence[str], *, stdin: str | None = None, within: float = 120.0, pass_fds: Sequence[int] = ()) -> str:
    """Run a command that must end with 0 within `within` seconds; return its standard output."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=within, pass_fds=pass_fds, check=False)
    except FileNotFoundError as error:
        raise MachineError(f"{argv[0]} is not installed; `python -m localcloud doctor` names its package") from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"`{' '.join(argv)}` had not ended after {within:.0f} s") from error
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-800:]
        raise MachineError(f"`{' '.join(argv)}` ended with {done.returncode}: {output}")
    return done.stdout


def wait_until(what: str, missing: Callable[[], str | None], *, within: float, every: float = 0.1) -> None:
    """Return when `missing()` returns None. Any other value describes what is still in the way.

    A `MachineError` from `missing` ends the wait at once. After `within` seconds the error contains the last description.
    """
    deadline = time.monotonic() + within
    while (seen := missing()) is not None:
        if time.monotonic() > deadline:
            raise MachineError(f"{what}: not so after {within:.0f} s; last seen: {seen}")
        time.sleep(every)


def http_problem(host: str, port: int, path: str) -> str | None:
    """Return None when `GET path` over plain HTTP is answered with 200, else what came instead."""
    # Not urllib: it would ask a proxy of the environment for an address that only this machine knows.
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return None if response.status == 200 else f"{response.status} {response.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def effective_capabilities(status: str) -> int:
    """Return the capability bits of CapEff in the text of /proc/self/status; 0 when there is no such line."""
    return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
