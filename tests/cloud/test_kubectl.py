"""Who may use the Kubernetes API: the identities that EKS would let in, and nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from system_under_test import Run, System

from scripts.installed import eks
from scripts.support.paths import VENV


def test_kubectl_works_as_the_pipelines_role(protected: Run, system: System) -> None:
    said = system.kubectl("get", "nodes", "-o", "name")
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.split()) == 4


def test_the_aws_command_line_writes_a_kubeconfig_that_works(
    protected: Run, system: System, tmp_path: Path, aws_environment: dict[str, str]
) -> None:
    environment = aws_environment | {"PATH": f"{VENV / 'bin'}:{aws_environment['PATH']}", "HOME": str(tmp_path)}
    config = tmp_path / "kubeconfig"
    update = ["eks", "update-kubeconfig", "--name", "leeward", "--kubeconfig", str(config), "--role-arn", system.endpoint["role_arn"]]
    made = system.python("awscli", *update, environment=environment)
    assert made.returncode == 0, made.stderr
    said = system.kubectl("auth", "whoami", config=config, environment=environment)
    assert said.returncode == 0, said.stderr
    assert "leeward-pipeline" in said.stdout


REFUSED = {
    "a wrong secret": {"secret_access_key": "0" * 40},
    "an unknown access key": {"access_key_id": "AKIA0000000000000000"},
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_token_signed_with_wrong_credentials_is_refused(protected: Run, system: System, tmp_path: Path, wrong: str) -> None:
    said = system.kubectl("get", "nodes", config=_user_config(system, tmp_path, **REFUSED[wrong]))
    assert said.returncode != 0
    assert "Unauthorized" in said.stderr


def test_a_user_without_an_access_entry_is_refused(protected: Run, system: System, tmp_path: Path) -> None:
    said = system.kubectl("get", "nodes", config=_user_config(system, tmp_path))
    assert said.returncode != 0
    assert "Unauthorized" in said.stderr


def test_a_token_for_another_cluster_is_refused(protected: Run, system: System, tmp_path: Path) -> None:
    config = json.loads(system.kubeconfig.read_text())
    config["users"][0]["user"]["exec"]["args"][-1] = "another"
    said = system.kubectl("get", "nodes", config=eks.write_private(tmp_path / "kubeconfig", json.dumps(config)))
    assert said.returncode != 0
    assert "Unauthorized" in said.stderr


def _user_config(system: System, folder: Path, **changed: str) -> Path:
    """A kubeconfig that signs as the cloud's user itself, who has no access entry; with other credentials where given."""
    _, _, user = eks.aws_config({**system.endpoint, **changed}).partition(f"[profile {eks.PROFILE}-user]")
    aws_config = eks.write_private(folder / "aws-config", f"[profile {eks.PROFILE}]{user}")
    config = json.loads(system.kubeconfig.read_text())
    for entry in config["users"][0]["user"]["exec"]["env"]:
        entry["value"] = {"AWS_CONFIG_FILE": str(aws_config)}.get(entry["name"], entry["value"])
    return eks.write_private(folder / "kubeconfig", json.dumps(config))
