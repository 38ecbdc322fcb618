"""Terraform on a small configuration without a provider, its state in the S3 of the embedded AWS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_aws import EmbeddedAws

from tasks.terraform import Workspace, init

KEY = "small.tfstate"

_numbers = itertools.count()

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


@pytest.fixture
def workspace(aws: EmbeddedAws, tmp_path: Path) -> Iterator[Workspace]:
    """An initialised workspace of the small configuration; nothing applied."""
    configuration = tmp_path / "configuration"
    configuration.mkdir()
    (configuration / "main.tf").write_text(_CONFIGURATION)
    bucket = f"states-{next(_numbers)}"
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    made = Workspace(
        home=tmp_path / "home",
        backend={"bucket": bucket, "key": KEY, "region": "us-west-2"},
        environment={
            "AWS_ENDPOINT_URL": aws.endpoint.url,
            "AWS_REGION": "us-west-2",
            "AWS_ACCESS_KEY_ID": aws.first.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.first.secret_access_key,
        },
        configuration=configuration,
    )
    init(made)
    yield made
    assert not [runner.pid for runner in made.records.all() if runner.alive()], "a terraform outlived its test"


def locks(aws: EmbeddedAws, workspace: Workspace) -> list[str]:
    """Keys of the lock files in the workspace's bucket."""
    listed = aws.client("s3").list_objects_v2(Bucket=workspace.backend["bucket"])
    return [thing["Key"] for thing in listed.get("Contents", []) if thing["Key"].endswith(".tflock")]


def in_proc(workspace: Workspace, file: str) -> str:
    """A file of /proc of the terraform that is running; empty when it has just ended."""
    found = [Path(f"/proc/{runner.pid}/{file}") for runner in workspace.records.all()]
    return "".join(path.read_text() for path in found if path.exists())
