"""The lines that a user sees while a flow run is followed."""

from __future__ import annotations

import io
import itertools
from datetime import UTC, datetime

import pytest

from scripts.services.follow import RunLost, RunPrinter, RunSnapshot, TaskSnapshot, changes, follow, take_snapshot
from scripts.services.prefect_api import ApiError
from scripts.support.console import Console

BEGUN = datetime(2026, 11, 23, 22, tzinfo=UTC).timestamp()


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
    """A console that collects its lines, with a clock that tests set; those that stand below the others have a `~`."""

    def __init__(self, verbose: bool = True) -> None:
        self.verbose = verbose
        self.lines: list[str] = []
        self.now = 0.0

    def print(self, source: str, text: str) -> None:
        self.lines.append(f"{source}: {text}")

    def detail(self, source: str, text: str) -> None:
        self.lines.append(f"{'' if self.verbose else '~'}{source}: {text}")


def test_progress_is_printed_when_it_changes_but_at_most_every_few_seconds() -> None:
    console = FakeConsole()
    progress = RunPrinter(console, lambda: console.now)  # type: ignore[arg-type]
    for second in range(12):
        console.now = second
        progress.print_changes(snapshot(task()), snapshot(task(), progress=f"{second} % of 12"))
    assert console.lines == ["provision:   0 % of 12", "provision:   5 % of 12", "provision:   10 % of 12"]


def test_after_a_long_silence_the_running_tasks_are_printed() -> None:
    console = FakeConsole()
    progress = RunPrinter(console, lambda: console.now)  # type: ignore[arg-type]
    console.now = 25
    progress.print_changes(snapshot(task()), snapshot(task(seconds=25)))
    assert console.lines == ["provision: … apply runs for 25 s"]


def of_stage(stage: str, state: str, start: float, seconds: float) -> TaskSnapshot:
    return TaskSnapshot("a task", stage, state, state.title(), "", seconds, 1, start)


def test_a_stage_is_one_line_with_its_time_once_the_next_one_has_begun() -> None:
    console = FakeConsole(verbose=False)
    printer = RunPrinter(console, lambda: console.now)  # type: ignore[arg-type]
    plan, build = of_stage("provision", "COMPLETED", 100, 10), of_stage("deploy", "COMPLETED", 110, 5)
    apply, check = of_stage("provision", "COMPLETED", 111, 49), of_stage("verify", "COMPLETED", 161, 1)
    printer.print_changes(snapshot(), snapshot(plan, build))
    assert not [line for line in console.lines if line[0] != "~"], "a task of a later stage that begins early ends no stage"
    printer.print_changes(snapshot(plan, build), snapshot(plan, build, apply, check))
    printer.print_changes(snapshot(plan, build, apply, check), snapshot(plan, build, apply, check))
    assert [line for line in console.lines if line[0] != "~"] == ["provision: done in 1 min 00 s"]


def test_the_last_stages_are_over_with_the_run_and_failures_and_retries_have_lines_of_their_own() -> None:
    console = FakeConsole(verbose=False)
    printer = RunPrinter(console, lambda: console.now)  # type: ignore[arg-type]
    running = snapshot(of_stage("deploy", "RUNNING", 10, 5))
    waiting = TaskSnapshot("a task", "deploy", "SCHEDULED", "AwaitingRetry", "connection refused", 5, 1, 10)
    failed = TaskSnapshot("a task", "deploy", "FAILED", "Failed", "no room", 20, 2, 10)
    printer.print_changes(snapshot(), running)
    printer.print_changes(running, snapshot(waiting))
    printer.print_changes(snapshot(waiting), snapshot(failed, state="FAILED", label="Failed", message="no room"))
    assert [line for line in console.lines if line[0] != "~"] == [
        "deploy: a task: will be tried again: connection refused",
        "deploy: ended after 20 s",
        "deploy: a task: failed (20 s): no room",
        "run: failed: no room",
    ]


class Terminal(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self) -> bool:
        return True


def test_a_detail_stands_below_the_lines_of_a_terminal_and_gives_a_sign_of_life_elsewhere() -> None:
    now = [0.0]
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        now[0] = 0.0
        console = Console(out, lambda: now[0], verbose=False)
        for now[0] in (1.0, 31.0, 32.0):
            console.detail("build", f"at {now[0]:.0f}")
        console.print("build", "done")
    assert file.getvalue() == "    31 s  build       … at 31\n    32 s  build       done\n"
    below = [f"\r\x1b[K    {'' if at > 9 else ' '}{at} s  build       at {at}" for at in (1, 31, 32)]
    assert terminal.getvalue() == "".join(below) + "\r\x1b[K    32 s  build       done\n"


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
    assert seen.tasks["t"] == TaskSnapshot("plan infrastructure", "provision", "RUNNING", "Running", "", 63.0, 1, BEGUN)
    assert seen.progress == {"t": "43 % 41 of 95 resources"}


def test_following_ends_with_the_run_and_tolerates_a_server_that_is_unreachable_for_a_moment() -> None:
    console = FakeConsole()
    last = follow(FakeApi("PENDING", "AWAY", "RUNNING", "COMPLETED"), "run", FakeProcess(), console, 60, every_s=0)  # type: ignore[arg-type]
    assert last.state == "COMPLETED"
    assert console.lines[-1] == "run: completed"


def test_following_says_how_long_the_server_has_been_silent_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(0.0, 40.0)
    monkeypatch.setattr("scripts.services.follow.time.monotonic", lambda: next(now))
    console = FakeConsole()
    with pytest.raises(RunLost, match="the Prefect server has given no answer for 5 min"):
        follow(FakeApi("RUNNING", "AWAY"), "run", FakeProcess(), console, 1e9, every_s=0)  # type: ignore[arg-type]
    assert console.lines[-1] == "run: … the Prefect server has given no answer for 4 min 00 s; last: connection refused"


def test_following_gives_up_when_the_services_have_ended_or_the_time_is_over() -> None:
    with pytest.raises(RunLost, match="its worker ended"):
        follow(FakeApi("RUNNING"), "run", FakeProcess(alive=False), FakeConsole(), 60, every_s=0)  # type: ignore[arg-type]
    with pytest.raises(RunLost, match="connection refused"):
        follow(FakeApi("AWAY"), "run", FakeProcess(alive=False), FakeConsole(), 60, every_s=0)  # type: ignore[arg-type]
    with pytest.raises(RunLost, match="not over after 0 s; it is Running"):
        follow(FakeApi("RUNNING"), "run", FakeProcess(), FakeConsole(), 0, every_s=0)  # type: ignore[arg-type]
