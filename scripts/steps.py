"""Set-up steps: programs that run in parallel where their order allows it, each with a log, and with progress for the user."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from textwrap import indent

from localcloud.files import last_lines
from localcloud.progress import format_seconds
from scripts.support.console import Console
from scripts.support.paths import ROOT
from scripts.support.processes import Process, can_contain, children, contained, kill_with_children

QUIET_S = 15.0
"""Seconds without a printed line after which the last log line of a running step is printed."""
STOP_TIMEOUT_S = 330.0
"""Seconds that a stopped step has to finish what must not be interrupted: `localcloud build` gives apt and dpkg 300 s."""


@dataclass(frozen=True)
class Step:
    """One program that is run to its end."""

    name: str
    argv: Sequence[str]
    after: tuple[str, ...] = ()
    """Names of the steps that must have succeeded before this one starts."""
    echo: bool = True
    """Whether its output is printed line by line; otherwise only its end, and its last line every QUIET_S seconds."""
    own_prefix: str = ""
    """Prefix of the program's own lines, removed because the printed line names the step already."""
    contained: bool = True
    """Whether the step's processes end with it, and the step with this process, where the machine has namespaces. False for a step
    that leaves something running."""
    timeout_s: float = 3600
    """Seconds after which the step counts as failed. An hour: compiling everything on one slow core."""


class StepFailed(RuntimeError):
    """A step ended with an exit code other than 0 or took too long; the text holds the end of its log."""


class _RunningStep:
    """A step whose program is running."""

    def __init__(self, step: Step, log: Path) -> None:
        self.step, self.log, self.start = step, log, time.monotonic()
        self.contained = step.contained and can_contain()
        self.last_printed = self.start
        self._offset = 0
        self._last = "no output yet"
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                contained(list(step.argv)) if self.contained else list(step.argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # the terminal's Ctrl-C reaches this process only, which ends the step
            )

    def print_new_lines(self, console: Console) -> None:
        """Print the complete new lines of the log; after a long silence, print its last line."""
        with self.log.open("rb") as file:
            file.seek(self._offset)
            text, newline, _rest = file.read().rpartition(b"\n")
        self._offset += len(text) + len(newline)
        lines = [line for line in text.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
        if lines:
            self._last = lines[-1].strip()
        if lines and self.step.echo:
            console.detail(self.step.name, "\n".join(self._shown(line) for line in lines))
            self.last_printed = time.monotonic()
        elif time.monotonic() - self.last_printed > QUIET_S:
            console.detail(self.step.name, f"… {format_seconds(time.monotonic() - self.start)}: {self._last[:120]}")
            self.last_printed = time.monotonic()

    def _shown(self, line: str) -> str:
        rest = line.removeprefix(self.step.own_prefix)
        return (rest.strip() if rest != line else line.rstrip())[:160]

    def request_end(self) -> list[Process]:
        """Send SIGTERM to a contained step if it handles that signal; return the processes to wait for."""
        process = Process.find(self.popen.pid) if self.step.contained else None
        inside = children(process) if process and self.contained else [process] if process else []
        handling = [first for first in inside if first.catches(SIGTERM)]
        for first in handling:
            first.signal(SIGTERM)
        return handling

    def stop(self, asked: Sequence[Process], console: Console) -> None:
        """Wait for the processes in `asked`, then kill what is left of the step and of what it started."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        try:
            while any(one.alive for one in asked) and time.monotonic() < deadline:
                self.print_new_lines(console)
                time.sleep(0.1)
        finally:
            if (process := Process.find(self.popen.pid)) and self.step.contained:
                kill_with_children(process)
            self.popen.kill()
            self.popen.wait()
        self.print_new_lines(console)


def run(steps: Sequence[Step], logs: Path, console: Console, *, every: float = 0.1) -> None:
    """Run all steps to success. Steps whose predecessors are done run in parallel.

    Raises:
        StepFailed: the first step that failed; the others have been stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    done: set[str] = set()
    running: dict[str, _RunningStep] = {}
    try:
        while len(done) < len(steps):
            for step in steps:
                if step.name not in done and step.name not in running and done.issuperset(step.after):
                    running[step.name] = _RunningStep(step, logs / f"setup-{step.name}.log")
            if not running:
                raise ValueError(f"steps wait for one another: {sorted(s.name for s in steps if s.name not in done)}")
            for ended in [one for one in running.values() if _ended(one, console)]:
                del running[ended.step.name]
                done.add(ended.step.name)
            time.sleep(every)
    finally:
        asked = {name: one.request_end() for name, one in running.items()}
        for name, one in running.items():
            one.stop(asked[name], console)


def _ended(one: _RunningStep, console: Console) -> bool:
    code = one.popen.poll()
    one.print_new_lines(console)
    took = time.monotonic() - one.start
    if code is None and took > one.step.timeout_s:
        raise StepFailed(f"{one.step.name} was not done after {format_seconds(took)}. {_tail(one.log)}")
    if code is None:
        return False
    if code != 0:
        raise StepFailed(f"{one.step.name} failed (exit code {code}). {_tail(one.log)}")
    if took > 2:
        console.print(one.step.name, f"done in {format_seconds(took)}")
    return True


def _tail(log: Path) -> str:
    return f"The end of {log}:\n" + indent(last_lines(log, 25), "    ")
