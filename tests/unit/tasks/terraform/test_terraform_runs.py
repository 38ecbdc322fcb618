"""Terraform's commands: what they leave, what they tell, and how they end early."""

from __future__ import annotations

import stat

import pytest
from embedded_aws import EmbeddedAws
from terraform_runs import Overheard, locks

from tasks.terraform import infrastructure
from tasks.terraform.infrastructure import Progress, Workspace

pytest_plugins = ["terraform_runs"]


def test_a_plan_is_told_and_applied_and_the_next_one_is_empty(workspace: Workspace) -> None:
    assert str(infrastructure.plan(workspace, {"word": "hello"})) == "2 to add, 0 to change, 0 to destroy"
    infrastructure.apply(workspace)
    assert infrastructure.output(workspace) == {"word": "hello"}
    assert infrastructure.plan(workspace, {"word": "hello"}).empty


def test_destroy_counts_what_went_and_leaves_no_outputs(workspace: Workspace) -> None:
    infrastructure.plan(workspace, {})
    infrastructure.apply(workspace)
    assert infrastructure.destroy(workspace, {}) == 2
    assert infrastructure.output(workspace) == {}
    assert infrastructure.destroy(workspace, {}) == 0


def test_progress_goes_from_nothing_to_all_and_names_what_is_being_made(workspace: Workspace) -> None:
    seen: list[Progress] = []
    infrastructure.plan(workspace, {"seconds": 1})
    infrastructure.apply(workspace, on_progress=seen.append)
    assert [(step.done, step.planned) for step in seen][-1] == (2, 2)
    assert any("terraform_data.slow" in step.current for step in seen)
    assert seen[-1].current == ()


def test_a_saved_plan_is_applied_once(workspace: Workspace) -> None:
    infrastructure.plan(workspace, {})
    infrastructure.apply(workspace)
    with pytest.raises(infrastructure.TerraformFailed, match="no saved plan"):
        infrastructure.apply(workspace)


def test_a_plan_for_an_older_state_is_outdated(workspace: Workspace) -> None:
    infrastructure.plan(workspace, {"word": "one"})
    older = workspace.plan_file.read_bytes()
    infrastructure.apply(workspace)
    workspace.plan_file.write_bytes(older)
    with pytest.raises(infrastructure.PlanOutdated, match="new plan"):
        infrastructure.apply(workspace)


def test_a_refusal_says_what_terraform_said(workspace: Workspace) -> None:
    with pytest.raises(infrastructure.TerraformFailed, match=r"terraform plan ended with 1: .*Time runs forward"):
        infrastructure.plan(workspace, {"seconds": -1})


def test_without_a_terraform_it_says_what_to_do(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(infrastructure.TerraformMissing, match=r"Terraform 1\.11 or newer on the PATH"):
        infrastructure.plan(workspace, {})


def test_a_secret_is_in_no_file_that_stays_and_on_no_command_line(workspace: Workspace, overheard: Overheard) -> None:
    secret = "correct-horse-battery-staple"
    infrastructure.plan(workspace, {"secret": secret})
    infrastructure.apply(workspace)
    infrastructure.output(workspace)
    kept = [path for path in workspace.home.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []
    assert "-var-file=" in overheard.arguments
    assert secret not in overheard.arguments + overheard.environment
    assert workspace.environment["AWS_SECRET_ACCESS_KEY"] not in overheard.arguments + repr(workspace)


def test_only_we_can_read_the_saved_plan_and_what_terraform_printed(workspace: Workspace) -> None:
    infrastructure.plan(workspace, {})
    assert stat.S_IMODE(workspace.home.stat().st_mode) == 0o700
    assert {stat.S_IMODE((workspace.home / name).stat().st_mode) for name in ("saved.tfplan", "plan.log", "plan.log.err")} == {0o600}


def test_terraform_sees_no_more_of_our_environment_than_it_needs(
    workspace: Workspace, overheard: Overheard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_PROFILE", "somebody-elses")
    infrastructure.plan(workspace, {})
    assert f"AWS_ENDPOINT_URL={workspace.environment['AWS_ENDPOINT_URL']}\n" in overheard.environment
    assert "hf_secret" not in overheard.environment
    assert "AWS_PROFILE" not in overheard.environment


def test_the_endpoint_is_asked_past_any_proxy(workspace: Workspace, overheard: Overheard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.org")
    infrastructure.plan(workspace, {})
    assert "NO_PROXY=example.org,127.0.0.1\n" in overheard.environment


def test_a_deadline_stops_terraform_and_frees_the_lock(workspace: Workspace, aws: EmbeddedAws) -> None:
    infrastructure.plan(workspace, {"seconds": 60})
    with pytest.raises(infrastructure.TerraformTimedOut, match=r"terraform apply was stopped after 3 s; its last line: "):
        infrastructure.apply(workspace, deadline_s=3)
    assert locks(aws, workspace) == []
    assert workspace.records.all() == []


class _Cancelled(BaseException):
    """As Prefect raises it in the main thread."""


def test_a_cancelled_run_stops_terraform_which_keeps_what_it_made(workspace: Workspace, aws: EmbeddedAws) -> None:
    def cancel(progress: Progress) -> None:
        if progress.done and "terraform_data.slow" in progress.current:
            raise _Cancelled

    infrastructure.plan(workspace, {"seconds": 60})
    with pytest.raises(_Cancelled):
        infrastructure.apply(workspace, on_progress=cancel)
    assert locks(aws, workspace) == []
    again = infrastructure.plan(workspace, {"seconds": 0})
    assert [change.address for change in again.changes if change.action == "create"] == []
    infrastructure.apply(workspace)
