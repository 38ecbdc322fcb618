"""Terraform on a small configuration without a provider, its state in the S3 of the embedded AWS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, which

import pytest
from embedded_aws import EmbeddedAws

from tasks.terraform.commands import Workspace, init

KEY = "small.tfstate"

_BUCKET = "states"

_CONFIGURATION = """
terraform {
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

variable "word" {
  default = "first"
}

variable "secret" {
  default   = "none"
  sensitive = true
}

variable "seconds" {
  default = 0
  validation {
    condition     = var.seconds >= 0
    error_message = "Time runs forward."
  }
}

resource "terraform_data" "quick" {
  input = { word = var.word, secret = var.secret }
}

resource "terraform_data" "slow" {
  triggers_replace = var.seconds
  provisioner "local-exec" {
    command = "exec sleep ${var.seconds}"
  }
}

output "word" {
  value = var.word
}
"""


@pytest.fixture(scope="session")
def initialised(aws_endpoint: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of the small configuration after `terraform init`, to be copied: init takes longer than most tests."""
    if not which("terraform"):
        pytest.skip("there is no terraform on the PATH")
    folder = tmp_path_factory.mktemp("terraform")
    configuration = folder / "configuration"
    configuration.mkdir()
    (configuration / "main.tf").write_text(_CONFIGURATION)
    made = Workspace(
        home=folder / "home",
        backend={"bucket": _BUCKET, "key": KEY, "region": "us-west-2"},
        environment={
            "AWS_ENDPOINT_URL": aws_endpoint.endpoint.url,
            "AWS_REGION": "us-west-2",
            "AWS_ACCESS_KEY_ID": aws_endpoint.first.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws_endpoint.first.secret_access_key,
        },
        configuration=configuration,
    )
    aws_endpoint.fresh()
    _create_bucket(aws_endpoint)
    init(made)
    return made


@pytest.fixture
def workspace(initialised: Workspace, aws: EmbeddedAws, tmp_path: Path) -> Iterator[Workspace]:
    """An initialised workspace of the small configuration with an empty bucket; nothing is applied."""
    _create_bucket(aws)
    made = replace(initialised, home=tmp_path / "home")
    copytree(initialised.home, made.home)
    yield made
    assert not [process.pid for process in made.records.all() if process.alive()], "a terraform outlived its test"


def _create_bucket(aws: EmbeddedAws) -> None:
    aws.client("s3").create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})


def locks(aws: EmbeddedAws, workspace: Workspace) -> list[str]:
    """Keys of the lock files in the workspace's bucket."""
    listed = aws.client("s3").list_objects_v2(Bucket=workspace.backend["bucket"])
    return [thing["Key"] for thing in listed.get("Contents", []) if thing["Key"].endswith(".tflock")]


@dataclass(frozen=True)
class RecordingTerraform:
    """The arguments and environment of all terraform processes of a test."""

    folder: Path

    @property
    def arguments(self) -> str:
        """Every argument, one per line."""
        return (self.folder / "arguments").read_text()

    @property
    def environment(self) -> str:
        """Every variable, one per line."""
        return (self.folder / "environment").read_text()


@pytest.fixture
def recording_terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingTerraform:
    """Put a terraform on the PATH that records its arguments and environment and then runs the real one."""
    folder = tmp_path / "recording_terraform"
    folder.mkdir()
    script = folder / "terraform"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {folder}/arguments\nenv >> {folder}/environment\nexec {which("terraform")} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return RecordingTerraform(folder)
