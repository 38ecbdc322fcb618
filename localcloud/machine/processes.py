"""Commands that end by themselves, and waits. Both have a deadline, and errors that tell what was seen last.

Everything here raises `MachineError`: what fails on the machine becomes the failure reason of an AWS resource.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud.machine.interface import MachineError

NEVER_SEEN = "nothing"


def run_command(argv: Sequence[str], *, stdin: str | None = None, within: float = 120.0, pass_fds: Sequence[int] = ()) -> str:
    """The command ended with 0 within `within` seconds; returns what it wrote to standard output."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=within, pass_fds=pass_fds, check=False)
    except FileNotFoundError as error:
        raise MachineError(f"{argv[0]} is not installed; `python -m localcloud doctor` tells which package has it") from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"`{' '.join(argv)}` had not ended after {within:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise MachineError(f"`{' '.join(argv)}` ended with {done.returncode}: {said}")
    return done.stdout


def wait_until(what: str, missing: Callable[[], str | None], *, within: float, every: float = 0.1) -> None:
    """Returns when `missing()` returns None: until then it tells what is still in the way.

    A `MachineError` from `missing` ends the wait at once. After `within` seconds the last thing seen is in the error.
    """
    deadline = time.monotonic() + within
    seen = NEVER_SEEN
    while (answer := missing()) is not None:
        seen = answer
        if time.monotonic() > deadline:
            raise MachineError(f"{what}: not so after {within:.0f} s; last seen: {seen}")
        time.sleep(every)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:400] for line in text.splitlines()[-lines:])
