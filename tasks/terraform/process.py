"""Runs one terraform process so that neither its death nor ours hurts the state.

It writes to a private file, which we follow, and lives in a session of its own. Were it a pipe, our death would
kill it by SIGPIPE in the midst of its work and leave the lock behind; so it finishes and unlocks. In turn a Ctrl-C
or a cancelled run reaches only us, and we pass it on: SIGINT makes Terraform stop its waits, save the state and unlock.
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
"""Prefect's worker kills a cancelled run after 30 s; Terraform answers SIGINT in well under one."""

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Invocation:
    """One terraform command line and where it runs."""

    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(repr=False)
    output: Path
    """What it prints, mode 0600; kept for who looks for the reason of a failure. Errors go to the same name + ".err"."""

    @property
    def errors(self) -> Path:
        """Where its stderr goes."""
        return self.output.with_name(self.output.name + ".err")


def follow(
    call: Invocation,
    on_event: Callable[[dict[str, Any]], None],
    deadline_s: float,
    watch: ProcessWatch | None = None,
) -> int:
    """Runs it to its end and tells every line as an event; returns its exit code, negative for a signal.

    On any exception, a signal's included, Terraform is stopped gracefully before the exception goes on.

    Args:
        deadline_s: seconds until it is stopped.
        watch: told when the process begins and when it has ended.

    Raises:
        TerraformTimedOut: it had to be stopped at the deadline.
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
                    raise TerraformTimedOut(f"terraform {call.argv[1]} was stopped after {deadline_s:.0f} s; it said last: {lines.last}")
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
    """The process has ended: asked by SIGINT, and after the grace killed with its provider plug-ins."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def private_file(path: Path) -> IO[bytes]:
    """A new, empty file that only we can read, open for writing."""
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
    """Whole lines of a growing file, as events."""

    def __init__(self, printed: IO[str]) -> None:
        self._printed = printed
        self._rest = ""
        self.last = "nothing"

    def new(self) -> Iterator[dict[str, Any]]:
        *whole, self._rest = (self._rest + self._printed.read()).split("\n")
        for line in filter(str.strip, whole):
            event = _event(line)
            self.last = str(event.get("@message", ""))[:300]
            yield event


def _event(line: str) -> dict[str, Any]:
    """One line of Terraform; what is not one of its events (a crash, a warning) becomes text."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "type" in event else {"type": "text", "@message": line}
