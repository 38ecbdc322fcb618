"""A flow run as it goes by: stages, tasks, retries and progress, one line each, not its log.

`look` reads one `Sight` from the API; `news` says what is new between two of them and touches nothing, so
what a user sees is tested without a server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scripts.services.prefect_api import TERMINAL, Api, ApiError
from scripts.support.console import Console, duration
from scripts.support.processes import Process

STAGE_TAG = "stage:"
RUN = "run"
"""Stands for a task's id where the progress is that of the whole flow run."""
PROGRESS_EVERY_S = 5.0
"""Between two progress lines of one task."""
QUIET_S = 20.0
"""After so long without news, what runs is said again."""
TAKEN_UP_WITHIN_S = 120.0
"""A worker that serves the pool takes a run up within seconds."""
API_AWAY_S = 60.0
"""A server that does not answer for so long will not come back: its namespace holds its database."""


class RunLost(RuntimeError):
    """The run can no longer be followed; the text says what was seen last."""


@dataclass(frozen=True)
class Task:
    """One task run at one moment."""

    name: str
    stage: str
    state: str
    """Prefect's state type: RUNNING, COMPLETED, FAILED, …"""
    label: str
    """Prefect's state name: Cached, Retrying, AwaitingRetry, …"""
    message: str
    seconds: float
    tries: int


@dataclass(frozen=True)
class Sight:
    """A flow run at one moment."""

    state: str
    label: str = ""
    message: str = ""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    progress: Mapping[str, str] = field(default_factory=dict)
    """Task run id → the text of its progress artifact; RUN → that of the flow run's own."""

    @property
    def running(self) -> list[Task]:
        """Tasks under way, longest first."""
        return sorted((task for task in self.tasks.values() if task.state == "RUNNING"), key=lambda task: -task.seconds)


def look(api: Api, flow_run: str) -> Sight:
    """The flow run now. Raises ApiError when the server does not answer."""
    run = api.flow_run(flow_run)
    tasks = {one["id"]: _task(one) for one in api.task_runs(flow_run)}
    progress = {
        one["task_run_id"] or RUN: f"{float(one['data'] or 0):.0f} % {one['description'] or ''}".strip()
        for one in api.artifacts(flow_run)
        if one["type"] == "progress"
    }
    return Sight(run["state_type"], run["state_name"], (run.get("state") or {}).get("message") or "", tasks, progress)


def _task(one: dict[str, Any]) -> Task:
    stage = next((tag.removeprefix(STAGE_TAG) for tag in sorted(one["tags"]) if tag.startswith(STAGE_TAG)), "run")
    name = re.sub(r"-[0-9a-f]{3}$", "", one["name"]).replace("_", " ")
    message = ((one.get("state") or {}).get("message") or "").strip()
    return Task(name, stage, one["state_type"], one["state_name"], message, _seconds(one), one["run_count"])


def _seconds(one: dict[str, Any]) -> float:
    if not one["start_time"]:
        return 0.0
    start = datetime.fromisoformat(one["start_time"])
    end = datetime.fromisoformat(one["end_time"]) if one["end_time"] else datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())


def news(before: Sight, now: Sight) -> Iterator[tuple[str, str]]:
    """What happened between two sights: who (the stage) and what. Progress is left to `Progress`."""
    for key, task in now.tasks.items():
        was = before.tasks.get(key)
        if was and (was.label, was.tries) == (task.label, task.tries):
            continue
        if task.state == "RUNNING":
            yield task.stage, f"{task.name} …" if task.tries < 2 else f"{task.name}: try {task.tries} …"
        elif task.state in TERMINAL:
            how = "done" if task.state == "COMPLETED" else task.label.lower()
            how = "done earlier" if task.label == "Cached" else how
            yield task.stage, f"{task.name}: {how} ({duration(task.seconds)}){_because(task.message) if how == task.label.lower() else ''}"
        elif task.label == "AwaitingRetry":
            yield task.stage, f"{task.name}: will be tried again{_because(task.message)}"
    if (before.state, before.label) != (now.state, now.label):
        yield "run", f"{now.label.lower()}{_because(now.message) if now.state in TERMINAL - {'COMPLETED'} else ''}"


def _because(message: str) -> str:
    return f": {' '.join(message.split())[:300]}" if message else ""


class Progress:
    """Says how far long tasks are: at most one line a task every few seconds, and something whenever all is quiet."""

    def __init__(self, write: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._said: dict[str, tuple[float, str]] = {}
        self._spoke = clock()

    def tell(self, before: Sight, now: Sight) -> None:
        """Writes the news between two sights."""
        lines = [*news(before, now), *self._progress(now)]
        if not lines and self._clock() - self._spoke > QUIET_S:
            lines = [(task.stage, f"… {task.name} runs for {duration(task.seconds)}") for task in now.running[:2]]
            lines = lines or [("run", f"… {now.label.lower()}")]
        for who, text in lines:
            self._write(who, text)
        if lines:
            self._spoke = self._clock()

    def _progress(self, now: Sight) -> Iterator[tuple[str, str]]:
        for key, text in now.progress.items():
            task = next(iter(now.running), None) if key == RUN else now.tasks.get(key)
            at, last = self._said.get(key, (-1e9, ""))
            if task and task.state == "RUNNING" and text != last and self._clock() - at >= PROGRESS_EVERY_S:
                self._said[key] = (self._clock(), text)
                yield task.stage, f"  {text}"


def follow(api: Api, flow_run: str, services: Process, console: Console, within_s: float, every_s: float = 1.0) -> Sight:
    """Shows the run until it has ended and returns its last sight.

    Raises:
        RunLost: the services ended, no worker took the run up, or it was still going after `within_s` seconds.
    """
    progress, sight = Progress(console.print), Sight("SCHEDULED", "Scheduled")
    start = answered = time.monotonic()
    while sight.state not in TERMINAL:
        time.sleep(every_s)
        try:
            before, sight = sight, look(api, flow_run)
            answered = time.monotonic()
            progress.tell(before, sight)
        except ApiError as error:
            _still(services.alive and time.monotonic() - answered < API_AWAY_S, f"the Prefect server is gone; last: {error}")
        _still(services.alive, "the Prefect server or its worker ended")
        waiting = sight.state in ("SCHEDULED", "PENDING") and not sight.tasks
        _still(not waiting or time.monotonic() - start < TAKEN_UP_WITHIN_S, f"no worker took the run up; it is {sight.label}")
        _still(time.monotonic() - start < within_s, f"not over after {duration(within_s)}; it is {sight.label}")
    return sight


def _still(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RunLost(otherwise)
