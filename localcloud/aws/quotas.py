"""Service Quotas: those of EC2 and VPC that a stack may meet; EC2 refuses launches beyond its own.

The values are those of an account in use, not AWS's defaults for a new one. PUT on /localcloud/quotas/CODE/VALUE sets one.
"""

from __future__ import annotations

import re
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.servicequotas import models, urls
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.models import ServiceQuotasBackend

from localcloud import settings

STANDARD, INF = "L-1216C47A", "L-1945791B"
ADDRESSES = "L-0263D0A3"
EC2: dict[str, tuple[str, float]] = {
    STANDARD: ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 1920.0),
    INF: ("Running On-Demand Inf instances", 1920.0),
    ADDRESSES: ("EC2-VPC Elastic IPs", 20.0),
}
"""Name and first value of each quota of EC2; those of instances count vCPUs."""
_FAMILIES = {STANDARD: r"[acdhimrtz]\d", INF: r"inf\d"}
CODE = "VcpuLimitExceeded"


class VcpuLimitExceeded(EC2ClientError):
    """The launch would exceed a quota of vCPUs."""

    def __init__(self, quota: float, name: str) -> None:
        super().__init__(
            CODE, f"You have requested more vCPU capacity than your current vCPU limit of {quota:.0f} allows for {name}; ask for more"
        )


class QuotasBackend(ServiceQuotasBackend):
    """Moto's quotas of VPC, and those of EC2, which can be set."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.values: dict[str, float] = {}

    @property
    def _url_module(self) -> Any:
        return urls

    def value(self, code: str) -> float:
        """The value of a quota of EC2."""
        return self.values.get(code, EC2[code][1])

    def get_service_quota(self, service_code: str, quota_code: str) -> dict[str, Any]:
        """The quota, with its present value."""
        if service_code == "ec2" and quota_code in EC2:
            found: dict[str, Any] = {"ServiceCode": "ec2", "QuotaCode": quota_code, "QuotaName": EC2[quota_code][0], "Unit": "None"}
        elif service_code == "vpc":
            found = dict(super().get_service_quota(service_code, quota_code))
        else:
            raise NoSuchResource
        default = EC2[quota_code][1] if quota_code in EC2 else found["Value"]
        return {**found, "Value": self.values.get(quota_code, default)}


def backend() -> QuotasBackend:
    """The backend of the embedded cloud's region."""
    found = models.servicequotas_backends[settings.ACCOUNT][settings.REGION]
    assert isinstance(found, QuotasBackend)
    return found


def check(instance_type: str, count: int, running: list[Any]) -> None:
    """Raise `VcpuLimitExceeded` when that many more instances of the type exceed the quota of their family."""
    for code, family in _FAMILIES.items():
        if re.match(family, instance_type):
            used = sum(_vcpus(each.instance_type) for each in running if re.match(family, each.instance_type))
            if used + count * _vcpus(instance_type) > backend().value(code):
                raise VcpuLimitExceeded(backend().value(code), instance_type)


def _vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES.get(instance_type, {}).get("VCpuInfo", {}).get("DefaultVCpus", 0))


def extend_moto() -> None:
    """Let `QuotasBackend` keep the quotas."""
    models.servicequotas_backends.backend = QuotasBackend
