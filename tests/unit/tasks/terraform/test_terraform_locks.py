"""The state's lock: a dead run of ours does not stand in the way, anybody else's does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from embedded_aws import EmbeddedAws
from terraform_runs import KEY, locks

from tasks.terraform import infrastructure
from tasks.terraform.infrastructure import Progress, Workspace
from tasks.terraform.lock import HeldLock, ProcessRecords, TerraformProcess

pytest_plugins = ["terraform_runs"]

_MESSAGE = """
Error message: operation error S3: PutObject, https response error StatusCode: 412
Lock Info:
  ID:        2ea1b2ff-4fbc-0e38-0ac2-d8f1a8a5c2f1
  Path:      bucket/terraform.tfstate
  Operation: OperationTypeApply
  Who:       somebody@elsewhere
  Version:   1.11.4
  Created:   2026-11-23 22:09:10.628660123 +0000 UTC
  Info:
"""


def _kill_once_working(workspace: Workspace) -> None:
    """An apply whose terraform, with all that belongs to it, is killed while it makes something."""

    def kill(progress: Progress) -> None:
        runner = workspace.records.all()[0]
        if "terraform_data.slow" in progress.current and runner.alive():  # what it said before it died is read all the same
            os.killpg(runner.pid, signal.SIGKILL)

    infrastructure.plan(workspace, {"seconds": 60})
    with pytest.raises(infrastructure.TerraformUnsettled, match="ended with -9"):
        infrastructure.apply(workspace, on_progress=kill)


def test_the_lock_of_a_killed_run_of_ours_is_removed(workspace: Workspace, aws: EmbeddedAws) -> None:
    _kill_once_working(workspace)
    assert locks(aws, workspace) == [f"{KEY}.tflock"]
    notes: list[str] = []
    infrastructure.plan(workspace, {}, on_progress=lambda progress: notes.append(progress.note))
    assert any("removing the lock of a killed run" in note for note in notes)
    assert locks(aws, workspace) == []
    assert workspace.records.all() == []


def test_a_lock_of_somebody_else_stays_and_the_error_names_it(workspace: Workspace, aws: EmbeddedAws) -> None:
    created = datetime.now(UTC) - timedelta(hours=1)
    lock = {
        **{"ID": "11111111-2222-3333-4444-555555555555", "Operation": "OperationTypePlan", "Info": "", "Version": "1.11.4", "Path": "x"},
        **{"Who": "somebody@elsewhere", "Created": created.strftime("%Y-%m-%dT%H:%M:%S.000Z")},
    }
    aws.client("s3").put_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock", Body=json.dumps(lock).encode())
    with pytest.raises(infrastructure.StateLocked, match=r"somebody@elsewhere \(plan, since 36\d\d s, lock 11111111-") as refused:
        infrastructure.plan(workspace, {})
    assert "terraform force-unlock 11111111-2222-3333-4444-555555555555" in str(refused.value)
    assert locks(aws, workspace) == [f"{KEY}.tflock"]
    infrastructure.force_unlock(workspace, lock["ID"])
    assert locks(aws, workspace) == []


def test_a_lock_taken_by_somebody_else_after_our_run_was_killed_stays(workspace: Workspace, aws: EmbeddedAws) -> None:
    _kill_once_working(workspace)
    stored = aws.client("s3").get_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock")["Body"].read()
    theirs = {**json.loads(stored), "ID": "11111111-2222-3333-4444-555555555555", "Who": "somebody@elsewhere"}
    aws.client("s3").put_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock", Body=json.dumps(theirs).encode())
    with pytest.raises(infrastructure.StateLocked, match="somebody@elsewhere"):
        infrastructure.plan(workspace, {})
    assert locks(aws, workspace) == [f"{KEY}.tflock"]


_APPLY = """
import json, sys
from pathlib import Path
from tasks.terraform import Workspace, apply
apply(Workspace(**{**json.loads(sys.argv[1]), **{name: Path(json.loads(sys.argv[1])[name]) for name in ("home", "configuration")}}))
"""


def test_terraform_outlives_who_started_it_and_the_next_run_waits_for_it(workspace: Workspace, aws: EmbeddedAws) -> None:
    infrastructure.plan(workspace, {"seconds": 4, "word": "survived"})
    told = json.dumps({**asdict(workspace), "home": str(workspace.home), "configuration": str(workspace.configuration)})
    starter = subprocess.Popen([sys.executable, "-c", _APPLY, told])
    _until(lambda: "terraform_data.slow: Creating" in _text(workspace.home / "apply.log"))
    starter.kill()
    starter.wait()
    notes: list[str] = []
    following = infrastructure.plan(workspace, {"seconds": 4, "word": "survived"}, on_progress=lambda progress: notes.append(progress.note))
    assert any("of an earlier run to end" in note for note in notes)
    assert following.empty
    assert locks(aws, workspace) == []


def test_an_earlier_run_that_does_not_end_is_named_when_the_time_is_up(workspace: Workspace) -> None:
    sleeper = subprocess.Popen(["sleep", "30"])
    try:
        workspace.records.add(TerraformProcess.of_pid(sleeper.pid))
        with pytest.raises(infrastructure.StateLocked, match=rf"pid {sleeper.pid}\) of an earlier run still runs"):
            infrastructure.plan(workspace, {}, deadline_s=0.5)
    finally:
        sleeper.kill()
        sleeper.wait()


def _until(so: object, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not so():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.fixture
def dead() -> TerraformProcess:
    """A run of ours that is over."""
    process = subprocess.Popen(["sleep", "30"])
    runner = TerraformProcess.of_pid(process.pid)
    process.kill()
    process.wait()
    return runner


def _lock_of(runner: TerraformProcess, after_s: float = 1) -> HeldLock:
    return HeldLock("id", "OperationTypeApply", f"{runner.user}@{runner.host}", datetime.fromtimestamp(runner.started + after_s, UTC))


def test_a_lock_is_a_dead_runs_own_only_with_its_user_host_and_time(dead: TerraformProcess) -> None:
    lock = _lock_of(dead)
    assert dead.left_behind(lock)
    assert not dead.left_behind(replace(lock, who=f"{dead.user}@elsewhere"))
    assert not dead.left_behind(replace(lock, who=f"nobody@{dead.host}"))
    assert not dead.left_behind(_lock_of(dead, after_s=-60))
    assert not dead.left_behind(_lock_of(dead, after_s=600))


def test_a_living_run_has_not_left_its_lock() -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        assert TerraformProcess.of_pid(process.pid).alive() is True
        assert not TerraformProcess.of_pid(process.pid).left_behind(_lock_of(TerraformProcess.of_pid(process.pid)))
    finally:
        process.kill()
        process.wait()


def test_another_process_with_the_same_pid_is_not_the_run() -> None:
    assert replace(TerraformProcess.of_pid(os.getpid()), start_tick=1).alive() is False


def test_after_a_reboot_every_run_of_this_machine_is_over(dead: TerraformProcess) -> None:
    mine = replace(TerraformProcess.of_pid(os.getpid()), machine=dead.machine, boot="an earlier one")
    assert mine.alive() is (False if dead.machine else None)


def test_of_another_machine_or_container_nothing_can_be_told(dead: TerraformProcess) -> None:
    for other in (replace(dead, host="elsewhere"), replace(dead, machine="elsewhere"), replace(dead, pid_namespace="pid:[1]")):
        assert other.alive() is None
        assert not other.left_behind(_lock_of(other))


def test_the_lock_is_read_from_terraforms_message() -> None:
    lock = HeldLock.from_text(_MESSAGE)
    assert lock == HeldLock(
        "2ea1b2ff-4fbc-0e38-0ac2-d8f1a8a5c2f1", "OperationTypeApply", "somebody@elsewhere", datetime(2026, 11, 23, 22, 9, 10, tzinfo=UTC)
    )


def test_a_message_without_a_lock_gives_none() -> None:
    assert HeldLock.from_text("Lock Info:\n  ID: only-this\n") is None


def test_a_record_that_was_cut_off_is_no_record(tmp_path: Path, dead: TerraformProcess) -> None:
    records = ProcessRecords(tmp_path)
    records.add(dead)
    (tmp_path / "broken.json").write_text('{"user": "ro')
    assert records.all() == [dead]
    records.forget_dead()
    assert records.all() == []
