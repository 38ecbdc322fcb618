"""`python -m tasks.terraform.orphans`: stops every terraform of this checkout that has outlived its flow run.

A terraform goes on when its flow run is killed, so that the state stays whole, and the next run waits for it. Before the embedded
cloud or the machine is taken down, it must be stopped, so that it can still save the state and unlock it. Needs only the standard
library.
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
    """Every recorded terraform under `home` that runs on this machine now."""
    return [process for folder in sorted(home.glob("*/runs")) for process in ProcessRecords(folder).all() if process.alive()]


def stop(processes: list[TerraformProcess], grace_s: float = 20) -> None:
    """Stop the processes: SIGINT first, and after `grace_s` seconds SIGKILL for them and their provider plug-ins."""
    for process in processes:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + grace_s
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in processes:
        _signal(process, signal.SIGKILL)
    while any(process.alive() for process in processes):
        time.sleep(0.05)


def _signal(process: TerraformProcess, number: signal.Signals) -> None:
    """Send SIGINT to Terraform alone, and any other signal to its whole process group."""
    with suppress(ProcessLookupError):
        if process.alive():
            (os.kill if number == signal.SIGINT else os.killpg)(process.pid, number)


def main() -> None:
    """Stop them and print a line for each."""
    found = living()
    for process in found:
        print(f"stopping terraform (pid {process.pid}), which has outlived its run", flush=True)
    stop(found)


if __name__ == "__main__":
    main()
