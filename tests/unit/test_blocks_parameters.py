"""Wrong parameters are refused before anything is touched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.parameters import NAME_MAX, NAME_PATTERN, Infrastructure, Service

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform" / "variables.tf"


def test_all_defaults_are_valid() -> None:
    assert Infrastructure().name == "leeward"
    assert Service().url == "http://mistral-serve-svc.mistral.svc:8000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a" * 28},
        {"name": "Leeward"},
        {"name": "9lives"},
        {"name": "two--dashes"},
        {"name": "ends-"},
        {"name": ""},
        {"nmae": "x"},
        {"core_nodes": {"count": 1}},
        {"core_nodes": {"instance_type": "large"}},
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
        {"public_access_cidrs": ["everybody"]},
        {"owner": "über"},
        {"ttl_hours": -1},
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


def test_the_rule_for_names_is_the_same_here_in_the_tasks_and_in_terraform() -> None:
    from tasks import aws

    assert (aws.NAME_PATTERN, aws.NAME_MAX) == (NAME_PATTERN, NAME_MAX)
    text = TERRAFORM.read_text()
    assert f'regex("{NAME_PATTERN}", var.name)) && length(var.name) <= {NAME_MAX}' in text


def test_every_variable_for_terraform_is_one_of_its_own() -> None:
    declared = set(re.findall(r'^variable "(\w+)"', TERRAFORM.read_text(), re.MULTILINE))
    assert set(Infrastructure().terraform_variables()) <= declared


def test_the_variables_hold_neither_what_the_target_decides_nor_a_secret() -> None:
    assert not {"name", "region", "enable_gcs_ha", "redis_auth_token"} & set(Infrastructure().terraform_variables())


def test_parameters_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        Infrastructure().name = "other"  # type: ignore[misc]


def test_every_field_explains_itself_in_the_form() -> None:
    for model in (Infrastructure, Service):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
