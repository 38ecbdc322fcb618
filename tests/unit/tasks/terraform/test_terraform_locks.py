"""The lock on the state: one that a dead process of this pipeline left is removed, any other one stays."""

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

from tasks.terraform import commands, errors
from tasks.terraform.commands import Workspace
from tasks.terraform.events import TerraformProgress
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
    """Run an apply and kill its terraform, with all child processes, while it creates a resource."""

    def kill(progress: TerraformProgress) -> None:
        runner = workspace.records.all()[0]
        if "terraform_data.slow" in progress.current and runner.alive():  # its output is still read after its death
            os.killpg(runner.pid, signal.SIGKILL)

    commands.plan(workspace, {"seconds": 60})
    with pytest.raises(errors.TerraformUnsettled, match="ended with -9"):
        commands.apply(workspace, on_progress=kill)


def test_the_lock_of_a_killed_terraform_of_this_pipeline_is_removed(workspace: Workspace, aws: EmbeddedAws) -> None:
    _kill_once_working(workspace)
    assert locks(aws, workspace) == [f"{KEY}.tflock"]
    notes: list[str] = []
    commands.plan(workspace, {}, on_progress=lambda progress: notes.append(progress.note))
    assert any("removing the lock of a killed run" in note for note in notes)
    assert locks(aws, workspace) == []
    assert workspace.records.all() == []


def test_a_foreign_lock_stays_and_the_error_names_it(workspace: Workspace, aws: EmbeddedAws) -> None:
    created = datetime.now(UTC) - timedelta(hours=1)
    lock = {
        **{"ID": "11111111-2222-3333-4444-555555555555", "Operation": "OperationTypePlan", "Info": "", "Version": "1.11.4", "Path": "x"},
        **{"Who": "somebody@elsewhere", "Created": created.strftime("%Y-%m-%dT%H:%M:%S.000Z")},
    }
    aws.client("s3").put_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock", Body=json.dumps(lock).encode())
    with pytest.raises(errors.StateLocked, match=r"somebody@elsewhere \(plan, since 36\d\d s, lock 11111111-") as refused:
        commands.plan(workspace, {})
    assert "terraform force-unlock 11111111-2222-3333-4444-555555555555" in str(refused.value)
    assert locks(aws, workspace) == [f"{KEY}.tflock"]
    commands.force_unlock(workspace, lock["ID"])
    assert locks(aws, workspace) == []


def test_a_foreign_lock_taken_after_a_terraform_was_killed_stays(workspace: Workspace, aws: EmbeddedAws) -> None:
    _kill_once_working(workspace)
    stored = aws.client("s3").get_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock")["Body"].read()
    theirs = {**json.loads(stored), "ID": "11111111-2222-3333-4444-555555555555", "Who": "somebody@elsewhere"}
    aws.client("s3").put_object(Bucket=workspace.backend["bucket"], Key=f"{KEY}.tflock", Body=json.dumps(theirs).encode())
    with pytest.raises(errors.StateLocked, match="somebody@elsewhere"):
        commands.plan(workspace, {})
    assert locks(aws, workspace) == [f"{KEY}.tflock"]


_APPLY = """
import json, sys
from pathlib import Path
from tasks.terraform.commands import Workspace, apply
apply(Workspace(**{**json.loads(sys.argv[1]), **{name: Path(json.loads(sys.argv[1])[name]) for name in ("home", "configuration")}}))
"""


def test_terraform_outlives_the_process_that_started_it_and_the_next_run_waits_for_it(workspace: Workspace, aws: EmbeddedAws) -> None:
    commands.plan(workspace, {"seconds": 4, "word": "survived"})
    told = json.dumps({**asdict(workspace), "home": str(workspace.home), "configuration": str(workspace.configuration)})
    starter = subprocess.Popen([sys.executable, "-c", _APPLY, told])
    _until(lambda: "terraform_data.slow: Creating" in _text(workspace.home / "apply.log"))
    starter.kill()
    starter.wait()
    notes: list[str] = []
    following = commands.plan(workspace, {"seconds": 4, "word": "survived"}, on_progress=lambda progress: notes.append(progress.note))
    assert any("of an earlier run to end" in note for note in notes)
    assert following.empty
    assert locks(aws, workspace) == []


def test_an_earlier_run_that_does_not_end_is_named_at_the_deadline(workspace: Workspace) -> None:
    sleeper = subprocess.Popen(["sleep", "30"])
    try:
        workspace.records.add(TerraformProcess.of_pid(sleeper.pid))
        with pytest.raises(errors.StateLocked, match=rf"pid {sleeper.pid}\) of an earlier run still runs"):
            commands.plan(workspace, {}, deadline_s=0.5)
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
    """A recorded process that has ended."""
    process = subprocess.Popen(["sleep", "30"])
    runner = TerraformProcess.of_pid(process.pid)
    process.kill()
    process.wait()
    return runner


def _lock_of(runner: TerraformProcess, after_s: float = 1) -> HeldLock:
    return HeldLock("id", "OperationTypeApply", f"{runner.user}@{runner.host}", datetime.fromtimestamp(runner.started + after_s, UTC))


def test_a_lock_belongs_to_a_dead_process_only_if_user_host_and_time_match(dead: TerraformProcess) -> None:
    lock = _lock_of(dead)
    assert dead.left_behind(lock)
    assert not dead.left_behind(replace(lock, who=f"{dead.user}@elsewhere"))
    assert not dead.left_behind(replace(lock, who=f"nobody@{dead.host}"))
    assert not dead.left_behind(_lock_of(dead, after_s=-60))
    assert not dead.left_behind(_lock_of(dead, after_s=600))


def test_a_running_process_has_not_left_its_lock_behind() -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        assert TerraformProcess.of_pid(process.pid).alive() is True
        assert not TerraformProcess.of_pid(process.pid).left_behind(_lock_of(TerraformProcess.of_pid(process.pid)))
    finally:
        process.kill()
        process.wait()


def test_another_process_with_the_same_pid_is_not_taken_for_it() -> None:
    assert replace(TerraformProcess.of_pid(os.getpid()), start_tick=1).alive() is False


def test_after_a_reboot_every_recorded_process_of_this_machine_is_dead(dead: TerraformProcess) -> None:
    mine = replace(TerraformProcess.of_pid(os.getpid()), machine=dead.machine, boot="an earlier one")
    assert mine.alive() is (False if dead.machine else None)


def test_whether_a_process_of_another_machine_or_container_runs_is_unknown(dead: TerraformProcess) -> None:
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


def test_a_truncated_record_is_skipped(tmp_path: Path, dead: TerraformProcess) -> None:
    records = ProcessRecords(tmp_path)
    records.add(dead)
    (tmp_path / "broken.json").write_text('{"user": "ro')
    assert records.all() == [dead]
    records.remove_dead()
    assert records.all() == []
