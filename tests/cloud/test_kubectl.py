"""Access to the Kubernetes API: identities that EKS would accept are accepted, all others are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from system_under_test import Run, System

from localcloud.files import write_private
from scripts.installed import eks
from scripts.support.paths import VENV


def test_kubectl_works_with_the_pipelines_role(protected: Run, system: System) -> None:
    done = system.kubectl("get", "nodes", "-o", "name")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 4


def test_the_aws_command_line_writes_a_kubeconfig_that_works(
    protected: Run, system: System, tmp_path: Path, aws_environment: dict[str, str]
) -> None:
    environment = aws_environment | {"PATH": f"{VENV / 'bin'}:{aws_environment['PATH']}", "HOME": str(tmp_path)}
    config = tmp_path / "kubeconfig"
    update = ["eks", "update-kubeconfig", "--name", "leeward", "--kubeconfig", str(config), "--role-arn", system.endpoint["role_arn"]]
    made = system.python("awscli", *update, environment=environment)
    assert made.returncode == 0, made.stderr
    done = system.kubectl("auth", "whoami", config=config, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "leeward-pipeline" in done.stdout


REFUSED = {
    "a wrong secret": {"secret_access_key": "0" * 40},
    "an unknown access key": {"access_key_id": "AKIA0000000000000000"},
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_token_signed_with_wrong_credentials_is_refused(protected: Run, system: System, tmp_path: Path, wrong: str) -> None:
    done = system.kubectl("get", "nodes", config=_user_config(system, tmp_path, **REFUSED[wrong]))
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr


def test_a_user_without_an_access_entry_is_refused(protected: Run, system: System, tmp_path: Path) -> None:
    done = system.kubectl("get", "nodes", config=_user_config(system, tmp_path))
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr


def test_a_token_for_another_cluster_is_refused(protected: Run, system: System, tmp_path: Path) -> None:
    config = json.loads(system.kubeconfig.read_text())
    config["users"][0]["user"]["exec"]["args"][-1] = "another"
    done = system.kubectl("get", "nodes", config=write_private(tmp_path / "kubeconfig", json.dumps(config)))
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr


def _user_config(system: System, folder: Path, **changed: str) -> Path:
    """Write a kubeconfig that signs as the cloud's user itself, which has no access entry; `changed`: other credentials."""
    _, _, user = eks.aws_config({**system.endpoint, **changed}).partition(f"[profile {eks.PROFILE}-user]")
    aws_config = write_private(folder / "aws-config", f"[profile {eks.PROFILE}]{user}")
    config = json.loads(system.kubeconfig.read_text())
    for entry in config["users"][0]["user"]["exec"]["env"]:
        entry["value"] = {"AWS_CONFIG_FILE": str(aws_config)}.get(entry["name"], entry["value"])
    return write_private(folder / "kubeconfig", json.dumps(config))
