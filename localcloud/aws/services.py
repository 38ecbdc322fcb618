"""The table of the AWS services that the embedded cloud serves, and of what each needs beyond moto.

A new service is one line in `SERVICES`, and moto's extra for it in pyproject.toml. It needs a module only where moto lacks something, or
answers differently from AWS; ecr.py is the pattern.
The signature check, the error format, the inventory and the leftovers need nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from localcloud import settings
from localcloud.aws import ecr, iam, quotas, sqs, ssm, sts
from localcloud.aws.ec2 import ec2
from localcloud.aws.eks import eks, pod_credentials
from localcloud.aws.elasticache import elasticache

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True)
class Service:
    """An AWS service. Moto answers it, and keeps its state, unless it has an `answer` of its own."""

    name: str
    """Name of moto's package; of a service with an `answer`, the name that its requests are signed for."""
    extend_moto: Callable[[], None] | None = None
    """Replaces parts of moto. Called once per process, before the first request."""
    not_resources: frozenset[str] = frozenset()
    """Attributes of moto's backend that the audit leaves out: reference data, indexes of what another attribute holds,
    and sessions, which end by themselves."""
    answer: Callable[[WSGIEnvironment], Response] | None = None
    """Function that answers in place of moto, once the signature has been checked."""


SERVICES: tuple[Service, ...] = (
    Service("autoscaling"),
    Service(
        "ec2",
        ec2.extend_moto,
        frozenset(
            {
                "amis",
                "deleted_amis",
                "instance_type_offerings",
                "instance_types",
                "launch_template_insert_order",
                "launch_template_name_to_ids",
                "managed_prefix_lists",
                "regions_to_zones",
                "snapshots",
                "tags",
                "zones",
            }
        ),
    ),
    Service("ecr", ecr.extend_moto),
    Service("eks", eks.extend_moto),
    Service("elb"),
    Service("elbv2"),
    Service("eks-auth", answer=pod_credentials.answer),
    Service("elasticache", elasticache.extend_moto),
    Service("events"),
    Service("iam", iam.extend_moto, frozenset({"access_keys", "aws_managed_policies", "managed_policies"})),
    Service("kms"),
    Service("logs"),
    Service("s3"),
    Service("secretsmanager"),
    Service("service-quotas", quotas.extend_moto, frozenset({"values"})),
    Service("sqs", sqs.extend_moto),
    Service("ssm", ssm.extend_moto),
    Service("sts", sts.extend_moto, frozenset({"assumed_roles"})),
)

_extended: set[str] = set()
_lock = Lock()


def extend_moto() -> None:
    """Make moto answer as the table says, before the first request. A second call does what is new in the table."""
    with _lock:
        # Without it, AttachRolePolicy of AWS's own policies answers NoSuchEntity. Moto reads it when it makes the IAM backend.
        os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
        # Without it, moto looks the account up on every request, in every partition, and makes an IAM backend for each.
        os.environ["MOTO_ACCOUNT_ID"] = settings.ACCOUNT
        for service in SERVICES:
            if service.extend_moto and service.name not in _extended:
                service.extend_moto()
                _extended.add(service.name)


def find(name: str) -> Service | None:
    """The service of that name; None when it is not in the table."""
    return next((service for service in SERVICES if service.name == name), None)
