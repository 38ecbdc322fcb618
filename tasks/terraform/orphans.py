"""`python -m tasks.terraform.orphans`: stops every terraform of this checkout that has outlived what started it.

A terraform goes on when its flow is killed, so that the state stays whole, and the next run waits for it. Whoever
takes down the place it works on (an embedded cloud, a runner) stops it first, so that it can still save and unlock.
Needs the standard library only.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tasks.support.paths import TERRAFORM_RUNS
from tasks.terraform.lock import Records, Runner


def living(home: Path = TERRAFORM_RUNS) -> list[Runner]:
    """Every terraform of any target under `home` that runs on this machine now."""
    return [runner for folder in sorted(home.glob("*/runs")) for runner in Records(folder).all() if runner.alive()]


def stop(runners: list[Runner], grace_s: float = 20) -> None:
    """None of them runs any more: each is asked by SIGINT and, after the grace, killed with its provider plug-ins."""
    for runner in runners:
        _signal(runner, signal.SIGINT)
    deadline = time.monotonic() + grace_s
    while any(runner.alive() for runner in runners) and time.monotonic() < deadline:
        time.sleep(0.1)
    for runner in runners:
        _signal(runner, signal.SIGKILL)
    while any(runner.alive() for runner in runners):
        time.sleep(0.05)


def _signal(runner: Runner, number: signal.Signals) -> None:
    """To Terraform alone when asked nicely; else to its whole group, whose leader it is."""
    with suppress(ProcessLookupError):
        if runner.alive():
            (os.kill if number == signal.SIGINT else os.killpg)(runner.pid, number)


def main() -> None:
    """Stops them and says so; silent when there are none."""
    found = living()
    for runner in found:
        print(f"stopping terraform (pid {runner.pid}), which has outlived its run", flush=True)
    stop(found)


if __name__ == "__main__":
    main()
