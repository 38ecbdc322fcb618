"""Follows a flow run on the terminal: stages, tasks, retries and progress, one line each; not the run's log.

`take_snapshot` reads one `RunSnapshot` from the API; `changes` is a pure function that lists what is new between two of
them, so what a user sees is tested without a server.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from localcloud.progress import format_seconds
from scripts.services.prefect_api import TERMINAL, Api, ApiError
from scripts.support.console import Console
from scripts.support.processes import Process

STAGE_TAG = "stage:"
STAGES = ("check", "provision", "verify", "deploy", "drill", "cleanup")
"""Stages of a lifecycle, in their order."""
RUN = "run"
"""Key of the flow run's own progress, where tasks have their id."""
PROGRESS_EVERY_S = 5.0
"""Seconds between two progress lines of one task."""
QUIET_S = 20.0
"""Seconds without a change after which the running tasks are printed again."""
PICKED_UP_WITHIN_S = 120.0
"""Seconds a run may wait for a worker. A worker of the pool picks a run up within seconds."""
API_AWAY_S = 300.0
"""Seconds without an answer after which a server that runs is given up, and the run with it: it may share the cores with much else."""


class RunLost(RuntimeError):
    """The run can no longer be followed; the text has the last observation."""


@dataclass(frozen=True)
class TaskSnapshot:
    """State of one task run at one moment."""

    name: str
    stage: str
    state: str
    """Prefect's state type: RUNNING, COMPLETED, FAILED, …"""
    label: str
    """Prefect's state name: Cached, Retrying, AwaitingRetry, …"""
    message: str
    seconds: float
    tries: int
    start: float = 0.0
    """Seconds since the epoch; 0: it has not begun."""


@dataclass(frozen=True)
class RunSnapshot:
    """State of a flow run at one moment."""

    state: str
    label: str = ""
    message: str = ""
    tasks: Mapping[str, TaskSnapshot] = field(default_factory=dict)
    progress: Mapping[str, str] = field(default_factory=dict)
    """Task run id → text of its progress artifact; RUN → text of the flow run's own."""

    @property
    def running(self) -> list[TaskSnapshot]:
        """Running tasks, longest first."""
        return sorted((task for task in self.tasks.values() if task.state == "RUNNING"), key=lambda task: -task.seconds)


def take_snapshot(api: Api, flow_run: str) -> RunSnapshot:
    """Read the flow run's present state. Raises ApiError when the server does not answer."""
    run = api.flow_run(flow_run)
    tasks = {one["id"]: _task(one) for one in api.task_runs(flow_run)}
    progress = {
        one["task_run_id"] or RUN: f"{float(one['data'] or 0):.0f} % {one['description'] or ''}".strip()
        for one in api.artifacts(flow_run)
        if one["type"] == "progress"
    }
    return RunSnapshot(run["state_type"], run["state_name"], (run.get("state") or {}).get("message") or "", tasks, progress)


def _task(one: dict[str, Any]) -> TaskSnapshot:
    stage = next((tag.removeprefix(STAGE_TAG) for tag in sorted(one["tags"]) if tag.startswith(STAGE_TAG)), "run")
    name = re.sub(r"-[0-9a-f]{3}$", "", one["name"]).replace("_", " ")
    message = ((one.get("state") or {}).get("message") or "").strip()
    start = datetime.fromisoformat(one["start_time"]).timestamp() if one["start_time"] else 0.0
    return TaskSnapshot(name, stage, one["state_type"], one["state_name"], message, _seconds(one), one["run_count"], start)


def _seconds(one: dict[str, Any]) -> float:
    if not one["start_time"]:
        return 0.0
    start = datetime.fromisoformat(one["start_time"])
    end = datetime.fromisoformat(one["end_time"]) if one["end_time"] else datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())


def stages_done(now: RunSnapshot) -> dict[str, float]:
    """Return the stages that are over, with their seconds: from the begin of the first task to the end of the last one.

    A stage is over when the one after it has begun since, because a task of a later one may begin early, or when the run has ended.
    """
    found = {}
    for stage, following in itertools.pairwise((*STAGES, "")):
        tasks = [task for task in now.tasks.values() if task.stage == stage and task.start]
        if not tasks or (now.state not in TERMINAL and any(task.state not in TERMINAL for task in tasks)):
            continue
        end = max(task.start + task.seconds for task in tasks)
        if now.state in TERMINAL or any(task.stage == following and task.start >= end for task in now.tasks.values()):
            found[stage] = end - min(task.start for task in tasks)
    return found


def changes(before: RunSnapshot, now: RunSnapshot, *, notable: bool = False) -> Iterator[tuple[str, str]]:
    """Yield what changed between two snapshots: the stage and a text. Progress is left to `RunPrinter`.

    Args:
        notable: Leave out what goes as it should.
    """
    for key, task in now.tasks.items():
        was = before.tasks.get(key)
        if was and (was.label, was.tries) == (task.label, task.tries):
            continue
        if notable and task.state in ("RUNNING", "COMPLETED") and task.tries < 2:
            continue
        if task.state == "RUNNING":
            yield task.stage, f"{task.name} …" if task.tries < 2 else f"{task.name}: try {task.tries} …"
        elif task.state in TERMINAL:
            how, why = ("done", "") if task.state == "COMPLETED" else (task.label.lower(), _because(task.message))
            how, why = ("done earlier", "") if task.label == "Cached" else (how, why)
            yield task.stage, f"{task.name}: {how} ({format_seconds(task.seconds)}){why}"
        elif task.label == "AwaitingRetry":
            yield task.stage, f"{task.name}: will be tried again{_because(task.message)}"
    if (before.state, before.label) != (now.state, now.label) and not (notable and now.state not in TERMINAL):
        yield "run", f"{now.label.lower()}{_because(now.message) if now.state in TERMINAL - {'COMPLETED'} else ''}"


def _because(message: str) -> str:
    return f": {' '.join(message.split())[:300]}" if message else ""


class RunPrinter:
    """Prints changes and the progress of long tasks: at most one line per task every few seconds, and a sign of life in silence."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._over: set[str] = set()
        self._printed: dict[str, tuple[float, str]] = {}
        self._last_printed = clock()

    def print_changes(self, before: RunSnapshot, now: RunSnapshot) -> None:
        """Print what changed between two snapshots."""
        notable = [] if self._console.verbose else list(changes(before, now, notable=True))
        lines = [line for line in (*changes(before, now), *self._progress(now)) if line not in notable]
        if not lines and self._clock() - self._last_printed > QUIET_S:
            lines = [(task.stage, f"… {task.name} runs for {format_seconds(task.seconds)}") for task in now.running[:2]]
            lines = lines or [("run", f"… {now.label.lower()}")]
        for stage, text in lines:
            self._console.detail(stage, text)
        for stage, seconds in stages_done(now).items() if not self._console.verbose else ():
            if stage not in self._over:
                ended = all(task.state == "COMPLETED" for task in now.tasks.values() if task.stage == stage)
                self._console.print(stage, f"{'done in' if ended else 'ended after'} {format_seconds(seconds)}")
                self._over.add(stage)
        for stage, text in notable:
            self._console.print(stage, text)
        if lines or notable:
            self._last_printed = self._clock()

    def _progress(self, now: RunSnapshot) -> Iterator[tuple[str, str]]:
        for key, text in now.progress.items():
            task = next(iter(now.running), None) if key == RUN else now.tasks.get(key)
            at, last = self._printed.get(key, (-1e9, ""))
            if task and task.state == "RUNNING" and text != last and self._clock() - at >= PROGRESS_EVERY_S:
                self._printed[key] = (self._clock(), text)
                yield task.stage, f"  {text}"


def follow(api: Api, flow_run: str, services: Process, console: Console, within_s: float, every_s: float = 1.0) -> RunSnapshot:
    """Print the run's changes until it has ended; return its last snapshot.

    Raises:
        RunLost: the services ended, no worker picked the run up, or it was still running after `within_s` seconds.
    """
    printer, snapshot = RunPrinter(console), RunSnapshot("SCHEDULED", "Scheduled")
    start = answered = time.monotonic()
    while snapshot.state not in TERMINAL:
        time.sleep(every_s)
        try:
            before, snapshot = snapshot, take_snapshot(api, flow_run)
            answered = time.monotonic()
            printer.print_changes(before, snapshot)
        except ApiError as error:
            silent = time.monotonic() - answered
            how = f"has given no answer for {format_seconds(silent)}" if services.alive else "is gone"
            words = f"the Prefect server {how}; last: {error}"
            _require(services.alive and silent < API_AWAY_S, words)
            if silent > QUIET_S:
                console.detail("run", f"… {words}")
        _require(services.alive, "the Prefect server or its worker ended")
        waiting = snapshot.state in ("SCHEDULED", "PENDING") and not snapshot.tasks
        _require(not waiting or time.monotonic() - start < PICKED_UP_WITHIN_S, f"no worker picked the run up; it is {snapshot.label}")
        _require(time.monotonic() - start < within_s, f"not over after {format_seconds(within_s)}; it is {snapshot.label}")
    return snapshot


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RunLost(otherwise)
