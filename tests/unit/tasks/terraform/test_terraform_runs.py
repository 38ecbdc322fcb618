"""Terraform's commands: their results, their progress, and how they are stopped."""

from __future__ import annotations

import stat

import pytest
from embedded_aws import EmbeddedAws
from terraform_runs import RecordingTerraform, locks

from tasks.terraform import commands, errors
from tasks.terraform.commands import Workspace
from tasks.terraform.events import TerraformProgress

pytest_plugins = ["terraform_runs"]


def test_after_a_plan_is_applied_the_next_one_is_empty(workspace: Workspace) -> None:
    assert str(commands.plan(workspace, {"word": "hello"})) == "2 to add, 0 to change, 0 to destroy"
    commands.apply(workspace)
    assert commands.output(workspace) == {"word": "hello"}
    assert commands.plan(workspace, {"word": "hello"}).empty


def test_destroy_returns_the_number_of_resources_and_leaves_no_outputs(workspace: Workspace) -> None:
    commands.plan(workspace, {})
    commands.apply(workspace)
    assert commands.destroy(workspace, {}) == 2
    assert commands.output(workspace) == {}
    assert commands.destroy(workspace, {}) == 0


def test_progress_goes_from_zero_to_all_and_names_the_resource_in_work(workspace: Workspace) -> None:
    seen: list[TerraformProgress] = []
    commands.plan(workspace, {"seconds": 1})
    commands.apply(workspace, on_progress=seen.append)
    assert [(step.done, step.planned) for step in seen][-1] == (2, 2)
    assert any("terraform_data.slow" in step.current for step in seen)
    assert seen[-1].current == ()


def test_a_saved_plan_is_applied_once(workspace: Workspace) -> None:
    commands.plan(workspace, {})
    commands.apply(workspace)
    with pytest.raises(errors.TerraformFailed, match="no saved plan"):
        commands.apply(workspace)


def test_a_plan_for_an_older_state_is_outdated(workspace: Workspace) -> None:
    commands.plan(workspace, {"word": "one"})
    older = workspace.plan_file.read_bytes()
    commands.apply(workspace)
    workspace.plan_file.write_bytes(older)
    with pytest.raises(errors.PlanOutdated, match="new plan"):
        commands.apply(workspace)


def test_the_error_has_terraforms_message(workspace: Workspace) -> None:
    with pytest.raises(errors.TerraformFailed, match=r"terraform plan ended with 1: .*Time runs forward"):
        commands.plan(workspace, {"seconds": -1})


def test_without_terraform_the_error_tells_what_to_install(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.TerraformMissing, match=r"Terraform 1\.11 or newer on the PATH"):
        commands.plan(workspace, {})


def test_a_secret_is_in_no_file_that_stays_and_on_no_command_line(workspace: Workspace, recording_terraform: RecordingTerraform) -> None:
    secret = "correct-horse-battery-staple"
    commands.plan(workspace, {"secret": secret})
    commands.apply(workspace)
    commands.output(workspace)
    kept = [path for path in workspace.home.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []
    assert "-var-file=" in recording_terraform.arguments
    assert secret not in recording_terraform.arguments + recording_terraform.environment
    assert workspace.environment["AWS_SECRET_ACCESS_KEY"] not in recording_terraform.arguments + repr(workspace)


def test_only_this_user_can_read_the_saved_plan_and_terraforms_output(workspace: Workspace) -> None:
    commands.plan(workspace, {})
    assert stat.S_IMODE(workspace.home.stat().st_mode) == 0o700
    assert {stat.S_IMODE((workspace.home / name).stat().st_mode) for name in ("saved.tfplan", "plan.log", "plan.log.err")} == {0o600}


def test_terraform_gets_only_the_environment_variables_that_it_needs(
    workspace: Workspace, recording_terraform: RecordingTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_PROFILE", "somebody-elses")
    commands.plan(workspace, {})
    assert f"AWS_ENDPOINT_URL={workspace.environment['AWS_ENDPOINT_URL']}\n" in recording_terraform.environment
    assert "hf_secret" not in recording_terraform.environment
    assert "AWS_PROFILE" not in recording_terraform.environment


def test_the_endpoint_is_reached_without_a_proxy(
    workspace: Workspace, recording_terraform: RecordingTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.org")
    commands.plan(workspace, {})
    assert "NO_PROXY=example.org,127.0.0.1\n" in recording_terraform.environment


def test_a_deadline_stops_terraform_and_frees_the_lock(workspace: Workspace, aws: EmbeddedAws) -> None:
    commands.plan(workspace, {"seconds": 60})
    with pytest.raises(errors.TerraformTimedOut, match=r"terraform apply was stopped after 3 s; its last line: "):
        commands.apply(workspace, deadline_s=3)
    assert locks(aws, workspace) == []
    assert workspace.records.all() == []


class _Cancelled(BaseException):
    """A cancellation, raised as Prefect does in the main thread."""


def test_a_cancelled_run_stops_terraform_and_the_state_keeps_the_created_resources(workspace: Workspace, aws: EmbeddedAws) -> None:
    def cancel(progress: TerraformProgress) -> None:
        if progress.done and "terraform_data.slow" in progress.current:
            raise _Cancelled

    commands.plan(workspace, {"seconds": 60})
    with pytest.raises(_Cancelled):
        commands.apply(workspace, on_progress=cancel)
    assert locks(aws, workspace) == []
    again = commands.plan(workspace, {"seconds": 0})
    assert [change.address for change in again.changes if change.action == "create"] == []
    commands.apply(workspace)
