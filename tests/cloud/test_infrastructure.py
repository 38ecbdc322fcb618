"""The infrastructure that Terraform created on the embedded cloud is complete, and a second plan finds nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from system_under_test import Run, System

from blocks.parameters import Infrastructure
from tasks.aws.account import redis_auth_token, state_bucket
from tasks.aws.leftovers import leftovers
from tasks.terraform import commands


@dataclass(frozen=True)
class Target:
    """The embedded cloud, used with the pipeline's role."""

    environment: Mapping[str, str] = field(repr=False)

    def client(self, service_name: str, /) -> Any:
        given = self.environment
        return boto3.client(
            service_name,
            endpoint_url=given["AWS_ENDPOINT_URL"],
            region_name=given["AWS_REGION"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=given["AWS_SESSION_TOKEN"],
        )


@pytest.fixture
def target(system: System, aws: Any) -> Target:
    taken = aws("sts").assume_role(RoleArn=system.endpoint["role_arn"], RoleSessionName="tests")["Credentials"]
    return Target(
        {
            "AWS_ENDPOINT_URL": system.endpoint["endpoint_url"],
            "AWS_REGION": system.endpoint["region"],
            "AWS_ACCESS_KEY_ID": taken["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": taken["SecretAccessKey"],
            "AWS_SESSION_TOKEN": taken["SessionToken"],
        }
    )


def test_a_second_plan_after_the_lifecycle_is_empty(protected: Run, target: Target, tmp_path: Path) -> None:
    wanted = Infrastructure()
    bucket = state_bucket(target, wanted.name)
    workspace = commands.Workspace(
        home=tmp_path / "terraform",
        backend={"bucket": bucket, "key": "terraform.tfstate", "region": target.environment["AWS_REGION"]},
        environment=target.environment,
    )
    commands.init(workspace)
    variables = {
        **wanted.terraform_variables(),
        "name": wanted.name,
        "region": target.environment["AWS_REGION"],
        "enable_gcs_ha": True,
        "redis_auth_token": redis_auth_token(target, wanted.name).get_secret_value(),
    }
    assert commands.plan(workspace, variables).changes == ()


def test_the_resources_of_the_running_infrastructure_are_found_by_name_and_tag(protected: Run, target: Target) -> None:
    found = {f"{each.service} {each.kind}" for each in leftovers(target, Infrastructure().name)}
    assert {"ec2 vpc", "ec2 instance", "eks cluster", "elasticache replication-group", "ecr repository", "iam role"} <= found


def test_no_resource_of_the_name_is_left_after_a_clean_up(cleaned: Run, target: Target) -> None:
    assert leftovers(target, Infrastructure().name) == []


def test_no_resource_of_the_name_is_left_after_a_clean_up_without_redis(unprotected: Run, target: Target) -> None:
    assert leftovers(target, Infrastructure().name) == []
