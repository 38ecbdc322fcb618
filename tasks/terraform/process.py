"""Runs one terraform process so that the state stays whole when it or this process dies.

Terraform writes to a private file, which this process follows, and has a session of its own. With a pipe, the death of this process
would kill Terraform by SIGPIPE in the middle of its work and leave the lock behind; with a file it finishes and unlocks. A Ctrl-C
or a cancellation reaches only this process, which sends Terraform a SIGINT: Terraform then stops waiting, saves the state and
unlocks it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tasks.terraform.errors import TerraformMissing, TerraformTimedOut
from tasks.terraform.lock import ProcessWatch

STOP_GRACE_S = 20
"""Seconds between SIGINT and SIGKILL. Prefect's worker kills a cancelled run after 30 s; Terraform normally ends within one."""

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Invocation:
    """One terraform command line and where it runs."""

    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(repr=False)
    output: Path
    """File for its standard output, mode 0600, kept to explain failures. Standard error goes to the same name + ".err"."""

    @property
    def errors(self) -> Path:
        """File for its standard error."""
        return self.output.with_name(self.output.name + ".err")


def follow(
    call: Invocation,
    on_event: Callable[[dict[str, Any]], None],
    deadline_s: float,
    watch: ProcessWatch | None = None,
) -> int:
    """Run the command to its end and call `on_event` for every line; returns the exit code, negative for a signal.

    On any exception, also one raised by a signal handler, Terraform is stopped gracefully before the exception goes on.

    Args:
        deadline_s: Seconds until it is stopped.
        watch: Notified when the process starts and when it has ended.

    Raises:
        TerraformTimedOut: it was stopped at the deadline.
        TerraformMissing: there is no such program.
    """
    process = _start(call)
    until = time.monotonic() + deadline_s
    with call.output.open(encoding="utf-8", errors="replace") as printed:
        lines = _Lines(printed)
        try:
            if watch is not None:
                watch.started(process.pid)
            while process.poll() is None:
                for event in lines.new():
                    on_event(event)
                if time.monotonic() > until:
                    raise TerraformTimedOut(f"terraform {call.argv[1]} was stopped after {deadline_s:.0f} s; its last line: {lines.last}")
                time.sleep(_POLL_S)
        except BaseException:
            stop(process)
            raise
        finally:
            if watch is not None and process.returncode is not None:
                watch.ended(process.returncode)
        for event in lines.new():
            on_event(event)
    return process.returncode


def stop(process: subprocess.Popen[bytes], grace_s: float = STOP_GRACE_S) -> None:
    """Stop the process: SIGINT first, and after `grace_s` seconds SIGKILL for it and its provider plug-ins."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def private_file(path: Path) -> IO[bytes]:
    """Create an empty file that only this user can read, and open it for writing."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _start(call: Invocation) -> subprocess.Popen[bytes]:
    with private_file(call.output) as output, private_file(call.errors) as errors:
        try:
            return subprocess.Popen(
                list(call.argv),
                cwd=call.directory,
                env=dict(call.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                umask=0o077,
            )
        except FileNotFoundError as missing:
            raise TerraformMissing(f"{missing.filename} was not found: put Terraform 1.11 or newer on the PATH") from missing


class _Lines:
    """Reads complete lines of a growing file as events."""

    def __init__(self, printed: IO[str]) -> None:
        self._printed = printed
        self._rest = ""
        self.last = "nothing"

    def new(self) -> Iterator[dict[str, Any]]:
        *whole, self._rest = (self._rest + self._printed.read()).split("\n")
        for line in filter(str.strip, whole):
            event = _parse_event(line)
            self.last = str(event.get("@message", ""))[:300]
            yield event


def _parse_event(line: str) -> dict[str, Any]:
    """Parse one line of output; a line that is no event (a crash, a warning) becomes an event of type text."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "type" in event else {"type": "text", "@message": line}
