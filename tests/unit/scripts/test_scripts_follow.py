"""The lines that a user sees while a flow run is followed."""

from __future__ import annotations

import pytest

from scripts.services.follow import RunLost, RunPrinter, RunSnapshot, TaskSnapshot, changes, follow, take_snapshot
from scripts.services.prefect_api import ApiError


def task(
    name: str = "apply", *, state: str = "RUNNING", label: str = "Running", message: str = "", seconds: float = 3, tries: int = 1
) -> TaskSnapshot:
    return TaskSnapshot(name, "provision", state, label, message, seconds, tries)


def snapshot(*tasks: TaskSnapshot, state: str = "RUNNING", label: str = "Running", message: str = "", progress: str = "") -> RunSnapshot:
    return RunSnapshot(state, label, message, {str(n): one for n, one in enumerate(tasks)}, {"0": progress} if progress else {})


def test_a_task_is_reported_when_it_begins_and_when_it_ends_with_its_duration() -> None:
    assert list(changes(snapshot(), snapshot(task()))) == [("provision", "apply …")]
    done = task(state="COMPLETED", label="Completed", seconds=63)
    assert list(changes(snapshot(task()), snapshot(done))) == [("provision", "apply: done (1 min 03 s)")]
    assert list(changes(snapshot(done), snapshot(done))) == []


def test_a_failed_task_is_reported_with_its_reason_on_one_line() -> None:
    failed = task(state="FAILED", label="Failed", message="no room\n  for a node")
    assert list(changes(snapshot(task()), snapshot(failed))) == [("provision", "apply: failed (3 s): no room for a node")]


def test_a_retry_is_reported_with_its_reason_and_its_number() -> None:
    waiting = task(state="SCHEDULED", label="AwaitingRetry", message="connection refused")
    again = task(label="Retrying", tries=2)
    assert list(changes(snapshot(task()), snapshot(waiting))) == [("provision", "apply: will be tried again: connection refused")]
    assert list(changes(snapshot(waiting), snapshot(again))) == [("provision", "apply: try 2 …")]


def test_a_cached_task_is_reported_as_done_earlier() -> None:
    cached = task(state="COMPLETED", label="Cached", seconds=0)
    assert list(changes(snapshot(), snapshot(cached))) == [("provision", "apply: done earlier (0 s)")]


def test_a_changed_state_of_the_run_is_reported_with_the_reason_of_a_failure() -> None:
    failed = snapshot(state="FAILED", label="VerdictFailed", message="28 of 80 streams lost")
    assert list(changes(snapshot(), failed)) == [("run", "verdictfailed: 28 of 80 streams lost")]
    assert list(changes(snapshot(state="PENDING", label="Pending"), snapshot())) == [("run", "running")]


class FakeConsole:
    """A console that collects its lines, with a clock that tests set."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0

    def print(self, source: str, text: str) -> None:
        self.lines.append(f"{source}: {text}")


def test_progress_is_printed_when_it_changes_but_at_most_every_few_seconds() -> None:
    console = FakeConsole()
    progress = RunPrinter(console.print, lambda: console.now)
    for second in range(12):
        console.now = second
        progress.print_changes(snapshot(task()), snapshot(task(), progress=f"{second} % of 12"))
    assert console.lines == ["provision:   0 % of 12", "provision:   5 % of 12", "provision:   10 % of 12"]


def test_after_a_long_silence_the_running_tasks_are_printed() -> None:
    console = FakeConsole()
    progress = RunPrinter(console.print, lambda: console.now)
    console.now = 25
    progress.print_changes(snapshot(task()), snapshot(task(seconds=25)))
    assert console.lines == ["provision: … apply runs for 25 s"]


class FakeApi:
    """An API that answers with one state of the flow run after the other; the last one stays."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)

    def flow_run(self, _identity: str) -> dict[str, object]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "AWAY":
            raise ApiError("connection refused")
        return {"state_type": state, "state_name": state.title(), "state": {"message": None}}

    def task_runs(self, _identity: str) -> list[dict[str, object]]:
        run: dict[str, object] = {"id": "t", "name": "plan_infrastructure-1b2", "tags": ["stage:provision", "aws"], "run_count": 1}
        state = {"state_type": "RUNNING", "state_name": "Running", "state": {"message": ""}}
        return [{**run, **state, "start_time": "2026-11-23T22:00:00Z", "end_time": "2026-11-23T22:01:03Z"}]

    def artifacts(self, _identity: str) -> list[dict[str, object]]:
        return [
            {"type": "progress", "task_run_id": "t", "data": 43.2, "description": "41 of 95 resources"},
            {"type": "markdown", "task_run_id": "t", "data": "#"},
        ]


class FakeProcess:
    """The services' process, alive or not as given."""

    pid = 1

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive


def test_a_snapshot_has_stage_name_duration_and_progress_of_a_task() -> None:
    seen = take_snapshot(FakeApi("RUNNING"), "run")  # type: ignore[arg-type]
    assert seen.tasks["t"] == TaskSnapshot("plan infrastructure", "provision", "RUNNING", "Running", "", 63.0, 1)
    assert seen.progress == {"t": "43 % 41 of 95 resources"}


def test_following_ends_with_the_run_and_tolerates_a_server_that_is_unreachable_for_a_moment() -> None:
    console = FakeConsole()
    last = follow(FakeApi("PENDING", "AWAY", "RUNNING", "COMPLETED"), "run", FakeProcess(), console, 60, every_s=0)  # type: ignore[arg-type]
    assert last.state == "COMPLETED"
    assert console.lines[-1] == "run: completed"


def test_following_gives_up_when_the_services_have_ended_or_the_time_is_over() -> None:
    with pytest.raises(RunLost, match="its worker ended"):
        follow(FakeApi("RUNNING"), "run", FakeProcess(alive=False), FakeConsole(), 60, every_s=0)  # type: ignore[arg-type]
    with pytest.raises(RunLost, match="connection refused"):
        follow(FakeApi("AWAY"), "run", FakeProcess(alive=False), FakeConsole(), 60, every_s=0)  # type: ignore[arg-type]
    with pytest.raises(RunLost, match="not over after 0 s; it is Running"):
        follow(FakeApi("RUNNING"), "run", FakeProcess(), FakeConsole(), 0, every_s=0)  # type: ignore[arg-type]
