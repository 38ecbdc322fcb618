"""Wrong parameters are refused before anything is changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES
from pydantic import ValidationError

from blocks.parameters import NAME_MAX, NAME_PATTERN, NOT_X86, SERVICES, TAKEN_TAGS, Infrastructure, Scaling, Service

TERRAFORM = Path(__file__).resolve().parents[3] / "terraform" / "variables.tf"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Leeward"},
        {"name": "9lives"},
        {"name": "two--dashes"},
        {"name": "ends-"},
        {"name": ""},
        {"nmae": "x"},
        {"core_nodes": {"count": 1}},
        {"core_nodes": {"instance_type": "large"}},
        {"core_nodes": {"instance_type": "m7g.xlarge"}},
        {"inf2_nodes": {"instance_type": "m6i.xlarge"}},
        {"inf2_nodes": {"instance_type": "inf2.16xlarge"}},
        {"inf2_nodes": {"fallback_types": ["inf2.24xlarge", "g5.xlarge"]}},
        {"inf2_nodes": {"count": 0}},
        {"inf2_nodes": {"disk_gib": 20}},
        {"inf2_nodes": {"provisioner": "autoscaler"}},
        {"redis": {"replicas": 0}},
        {"kubernetes_version": "1.35.4"},
        {"vpc_cidr": "10.0.0.0/24"},
        {"vpc_cidr": "10.0.0.1/16"},
        {"vpc_cidr": "172.20.0.0/16"},
        {"vpc_cidr": "172.20.16.0/20"},
        {"vpc_cidr": "172.32.0.0/16"},
        {"vpc_cidr": "100.128.0.0/16"},
        {"vpc_cidr": "10.20.0.0/255.255.0.0"},
        {"availability_zones": ["us-west-2a"]},
        {"availability_zones": ["us-west-2a", "us-west-2a"]},
        {"availability_zones": ["us-west-2", "us-west-2b"]},
        {"availability_zones": [f"us-west-2{letter}" for letter in "abcd"]},
        {"admin_principal_arns": ["me"]},
        {"admin_principal_arns": ["arn:aws:sts::123456789012:assumed-role/team/me"]},
        {"public_access_cidrs": ["everybody"]},
        {"public_access_cidrs": ["198.51.100.7"]},
        {"public_access_cidrs": ["10.0.0.0/8"]},
        {"public_access_cidrs": ["100.64.1.0/24"]},
        {"public_access_cidrs": [f"198.51.100.{n}/32" for n in range(41)]},
        {"owner": "über"},
        {"ttl_hours": 24},  # was a parameter once, and nothing read it
        {"tags": {"": "x"}},
        {"tags": {"team": "a", "Team": "b"}},
        {"tags": {"LEEWARD:Name": "x"}},
        {"tags": {"aws:name": "x"}},
        {"tags": {"leeward:name": "x"}},
        {"tags": {"eks:eks-cluster-name": "x"}},
        {"tags": {"kubernetes.io/cluster/mine": "owned"}},
        {"tags": {"karpenter.sh/nodepool": "x"}},
        {"tags": {"karpenter.k8s.aws/ec2nodeclass": "x"}},
        {"tags": {"what, ever": "x"}},
        {"tags": {"newline\n": "x"}},
        {"tags": {"k" * 129: "x"}},
        {"tags": {str(n): "x" for n in range(41)}},
    ],
)
def test_an_infrastructure_that_aws_would_refuse_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Infrastructure.model_validate(wrong)


@pytest.mark.parametrize("wrong", [{"name": "Mistral"}, {"name": "x" * 41}, {"namespace": "-x"}, {"workers": 0}, {"replicas": 2}])
def test_a_service_that_kubernetes_would_refuse_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Service.model_validate(wrong)


def test_the_longest_name_fits_and_one_more_letter_does_not() -> None:
    assert Infrastructure(name="a" * NAME_MAX)
    with pytest.raises(ValidationError):
        Infrastructure(name="a" * (NAME_MAX + 1))


def test_the_rule_for_stack_names_is_the_same_in_blocks_tasks_and_terraform() -> None:
    from tasks.aws import account

    assert (account.NAME_PATTERN, account.NAME_MAX) == (NAME_PATTERN, NAME_MAX)
    text = TERRAFORM.read_text()
    assert f'regex("{NAME_PATTERN}", var.name)) && length(var.name) <= {NAME_MAX}' in text


def test_the_rules_for_types_and_tags_are_the_same_in_terraform() -> None:
    text = TERRAFORM.read_text().replace("\\\\", "\\")
    assert f'regex("{NOT_X86}", var.core_nodes.instance_type)' in text
    assert f'regex("{TAKEN_TAGS}", lower(key))' in text


def test_the_service_range_is_the_same_in_terraform() -> None:
    assert f'service_cidr = "{SERVICES}"' in TERRAFORM.with_name("cluster.tf").read_text()


@pytest.mark.parametrize("cidr", ["10.20.0.0/16", "172.16.0.0/16", "172.21.0.0/20", "192.168.0.0/16", "100.64.0.0/16", "100.127.240.0/20"])
def test_every_private_range_outside_the_service_range_is_accepted(cidr: str) -> None:
    assert Infrastructure(vpc_cidr=cidr)


@pytest.mark.parametrize("cidrs", [[], ["0.0.0.0/0"], ["203.0.113.0/24", "198.51.100.7/32"]])
def test_the_api_may_be_open_to_all_addresses_to_some_or_to_none(cidrs: list[str]) -> None:
    assert Infrastructure.model_validate({"public_access_cidrs": cidrs}).terraform_variables()["public_access_cidrs"] == cidrs


@pytest.mark.parametrize(("zones", "count"), [([], 2), (["us-west-2a", "us-west-2c"], 2), (["us-west-2a", "us-west-2b", "us-west-2d"], 3)])
def test_the_number_of_zones_is_that_of_the_named_ones_or_two(zones: list[str], count: int) -> None:
    given = Infrastructure.model_validate({"availability_zones": zones}).terraform_variables()
    assert (given["availability_zones"], given["az_count"]) == (zones, count)


def test_further_administrators_are_passed_to_terraform() -> None:
    team = ["arn:aws:iam::123456789012:role/team", "arn:aws-cn:iam::123456789012:user/ops/me"]
    assert Infrastructure.model_validate({"admin_principal_arns": team}).terraform_variables()["admin_principal_arns"] == team


def test_core_nodes_may_be_of_every_x86_type() -> None:
    for kind, one in INSTANCE_TYPES.items():
        right = "x86_64" in one["ProcessorInfo"]["SupportedArchitectures"]
        assert right != bool(re.match(NOT_X86, kind)), kind


def test_further_tags_are_accepted() -> None:
    tags = {"team": "search", "Name": "", "kubernetes.io/role/elb": "1", "cost:center": "a b"}
    assert Infrastructure(tags=tags).terraform_variables()["tags"] == tags


def test_every_variable_for_terraform_is_declared_there() -> None:
    declared = set(re.findall(r'^variable "(\w+)"', TERRAFORM.read_text(), re.MULTILINE))
    assert set(Infrastructure().terraform_variables()) <= declared


def test_the_variables_contain_neither_name_region_nor_a_secret() -> None:
    assert not {"name", "region", "enable_gcs_ha", "redis_auth_token"} & set(Infrastructure().terraform_variables())


def test_parameters_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Infrastructure().name = "other"  # type: ignore[misc]


def test_every_field_explains_itself_in_the_form() -> None:
    for model in (Infrastructure, Service, Scaling):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
