"""`python -m tasks.terraform.orphans`: stops every terraform of this checkout that has outlived what started it.

A terraform goes on when its flow is killed, so that the state stays whole, and the next run waits for it. Whoever
takes down the place it works on (an embedded cloud, a process) stops it first, so that it can still save and unlock.
Needs the standard library only.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tasks.support.paths import TERRAFORM_RUNS
from tasks.terraform.lock import ProcessRecords, TerraformProcess


def living(home: Path = TERRAFORM_RUNS) -> list[TerraformProcess]:
    """Every terraform of any target under `home` that runs on this machine now."""
    return [process for folder in sorted(home.glob("*/runs")) for process in ProcessRecords(folder).all() if process.alive()]


def stop(processs: list[TerraformProcess], grace_s: float = 20) -> None:
    """None of them runs any more: each is asked by SIGINT and, after the grace, killed with its provider plug-ins."""
    for process in processs:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + grace_s
    while any(process.alive() for process in processs) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in processs:
        _signal(process, signal.SIGKILL)
    while any(process.alive() for process in processs):
        time.sleep(0.05)


def _signal(process: TerraformProcess, number: signal.Signals) -> None:
    """To Terraform alone when asked nicely; else to its whole group, whose leader it is."""
    with suppress(ProcessLookupError):
        if process.alive():
            (os.kill if number == signal.SIGINT else os.killpg)(process.pid, number)


def main() -> None:
    """Stops them and says so; silent when there are none."""
    found = living()
    for process in found:
        print(f"stopping terraform (pid {process.pid}), which has outlived its run", flush=True)
    stop(found)


if __name__ == "__main__":
    main()
