"""Set-up steps: programs that run side by side where they may, with a log each and progress for the user."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM

from scripts.support.places import ROOT
from scripts.support.processes import Process, can_contain, children, contained, kill_whole
from scripts.support.say import Say, duration

QUIET_S = 15.0
"""After so long without a line of its own, a running step is mentioned with the last line of its log."""
END_S = 330.0
"""For which a step that is stopped may finish what must not be cut short: `localcloud build` gives apt and dpkg 300 s."""


@dataclass(frozen=True)
class Step:
    """One program to run to its end."""

    name: str
    argv: Sequence[str]
    after: tuple[str, ...] = ()
    """Names of steps that must have succeeded before."""
    env: Mapping[str, str] = field(default_factory=dict)
    echo: bool = True
    """Show its output line by line; else only the beginning, the end, and a sign of life."""
    says_its_name: str = ""
    """What it begins its lines with, to be left out: the line says already who speaks."""
    contained: bool = True
    """Whatever it starts ends with it, and it ends with us, where the machine has namespaces. False for what is meant to leave
    something running."""
    within_s: float = 3600
    """It has failed when it runs for longer. An hour: compiling everything on one slow core."""


class StepFailed(RuntimeError):
    """A step ended with an exit code other than 0; the text holds the end of its log."""


class _Running:
    """A step under way."""

    def __init__(self, step: Step, log: Path) -> None:
        self.step, self.log, self.start = step, log, time.monotonic()
        self.contained = step.contained and can_contain()
        self.spoke = self.start
        self._offset = 0
        self._last = "no output yet"
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                contained(list(step.argv)) if self.contained else list(step.argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **step.env},
                start_new_session=True,  # Ctrl-C of the terminal reaches us, not it; we end it
            )

    def tell(self, say: Say) -> None:
        """Echoes whole new lines of the log; mentions a step that has been quiet for long."""
        with self.log.open("rb") as file:
            file.seek(self._offset)
            text, newline, _rest = file.read().rpartition(b"\n")
        self._offset += len(text) + len(newline)
        lines = [line for line in text.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
        if lines:
            self._last = lines[-1].strip()
        if lines and self.step.echo:
            say(self.step.name, "\n".join(self._shown(line) for line in lines))
            self.spoke = time.monotonic()
        elif time.monotonic() - self.spoke > QUIET_S:
            say(self.step.name, f"… {duration(time.monotonic() - self.start)}: {self._last[:120]}")
            self.spoke = time.monotonic()

    def _shown(self, line: str) -> str:
        rest = line.removeprefix(self.step.says_its_name)
        return (rest.strip() if rest != line else line.rstrip())[:160]

    def ask(self) -> list[Process]:
        """A contained step has been told to end, if it listens; returns whom to wait for."""
        process = Process.of(self.popen.pid) if self.step.contained else None
        inside = children(process) if process and self.contained else [process] if process else []
        listening = [first for first in inside if first.catches(SIGTERM)]
        for first in listening:
            first.signal(SIGTERM)
        return listening

    def stop(self, asked: Sequence[Process], say: Say) -> None:
        """The step and everything it started are gone: by themselves, or killed."""
        deadline = time.monotonic() + END_S
        try:
            while any(one.alive for one in asked) and time.monotonic() < deadline:
                self.tell(say)
                time.sleep(0.1)
        finally:
            if (process := Process.of(self.popen.pid)) and self.step.contained:
                kill_whole(process)
            self.popen.kill()
            self.popen.wait()
        self.tell(say)


def run(steps: Sequence[Step], logs: Path, say: Say, *, every: float = 0.1) -> None:
    """All steps have succeeded. Those whose predecessors are done run at the same time.

    Raises:
        StepFailed: the first that failed; the others have been stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    done: set[str] = set()
    running: dict[str, _Running] = {}
    try:
        while len(done) < len(steps):
            for step in steps:
                if step.name not in done and step.name not in running and done.issuperset(step.after):
                    running[step.name] = _Running(step, logs / f"setup-{step.name}.log")
            if not running:
                raise ValueError(f"steps wait for one another: {sorted(s.name for s in steps if s.name not in done)}")
            for ended in [one for one in running.values() if _ended(one, say)]:
                del running[ended.step.name]
                done.add(ended.step.name)
            time.sleep(every)
    finally:
        asked = {name: one.ask() for name, one in running.items()}
        for name, one in running.items():
            one.stop(asked[name], say)


def _ended(one: _Running, say: Say) -> bool:
    code = one.popen.poll()
    one.tell(say)
    took = time.monotonic() - one.start
    if code is None and took > one.step.within_s:
        raise StepFailed(f"{one.step.name} was not done after {duration(took)}. {_tail(one.log)}")
    if code is None:
        return False
    if code != 0:
        raise StepFailed(f"{one.step.name} failed (exit code {code}). {_tail(one.log)}")
    if took > 2:
        say(one.step.name, f"done in {duration(took)}")
    return True


def _tail(log: Path, lines: int = 25) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return f"The end of {log}:\n" + "\n".join(f"    {line}" for line in text)
