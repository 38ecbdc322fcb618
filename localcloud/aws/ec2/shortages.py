"""Shortages: instance types that are out of capacity in a zone, where a launch fails with InsufficientInstanceCapacity.

On AWS this happens to inf2. Here PUT and DELETE on /localcloud/shortages/TYPE/ZONE begin and end a shortage.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.spot_requests import SpotFleetLaunchSpec
from moto.ec2.responses.fleets import Fleets

from localcloud.aws import quotas

CODE = "InsufficientInstanceCapacity"

_short: set[tuple[str, str]] = set()
_lock = Lock()


class Insufficient(EC2ClientError):
    """There is no capacity for the instance type in the zone."""

    def __init__(self, instance_type: str, zone: str) -> None:
        super().__init__(CODE, f"There is no capacity for {instance_type} in {zone} now; other zones or types may have some")


def begin(instance_type: str, zone: str) -> None:
    """From now on no instance of the type can be launched in the zone. Running ones are not affected."""
    with _lock:
        _short.add((instance_type, zone))


def end(instance_type: str, zone: str) -> None:
    """End the shortage of the instance type in the zone."""
    with _lock:
        _short.discard((instance_type, zone))


def end_all() -> None:
    """End the shortages of all types and zones."""
    with _lock:
        _short.clear()


def current() -> list[dict[str, str]]:
    """The instance types and zones that are out of capacity."""
    with _lock:
        return [{"instance_type": instance_type, "zone": zone} for instance_type, zone in sorted(_short)]


def check(instance_type: str, zone: str) -> None:
    """Raise `Insufficient` when the instance type is out of capacity in the zone."""
    with _lock:
        if (instance_type, zone) in _short:
            raise Insufficient(instance_type, zone)


class CapacityAwareFleet(Fleet):
    """A fleet that uses the cheapest of its launch specifications that has capacity, and reports those without.

    It knows no prices, so the smallest type counts as the cheapest, and of one type the first specification. The order of types
    has no meaning: Karpenter lists types that need different launch templates in any order.
    """

    def get_launch_spec_counts(self, weight_to_add: float) -> tuple[dict[SpotFleetLaunchSpec, int], float]:
        """How many instances to launch of which specification; empty when none has capacity."""
        requested, available = self.launch_specs, []
        self.errors: list[dict[str, Any]] = []
        for spec in requested:
            zone = self.ec2_backend.get_subnet(spec.subnet_id).availability_zone if spec.subnet_id else f"{self.ec2_backend.region_name}a"
            try:
                quotas.check(spec.instance_type, 1, self.ec2_backend._running())
                check(spec.instance_type, zone)
                available.append(spec)
            except (Insufficient, quotas.VcpuLimitExceeded) as error:
                self.errors.append(_error(spec, zone, error) | {"Lifecycle": self._lifecycle})
        if not available:
            return {}, 0
        self.launch_specs = sorted(available, key=lambda spec: _size(spec.instance_type))
        try:
            return super().get_launch_spec_counts(weight_to_add)
        finally:
            self.launch_specs = requested

    @property
    def _lifecycle(self) -> str:
        return str(self.target_capacity_specification.get("DefaultTargetCapacityType") or "on-demand")


def _size(instance_type: str) -> tuple[int, int]:
    """The type's vCPUs and MiB; zeros for an unknown type, whose launch will fail with the right error."""
    known = INSTANCE_TYPES.get(instance_type)
    return (known["VCpuInfo"]["DefaultVCpus"], known["MemoryInfo"]["SizeInMiB"]) if known else (0, 0)


def _error(spec: SpotFleetLaunchSpec, zone: str, error: EC2ClientError) -> dict[str, Any]:
    tried = {
        "LaunchTemplateSpecification": spec.launch_template_spec,
        "Overrides": {**(spec.overrides or {}), "InstanceType": spec.instance_type, "AvailabilityZone": zone},
    }
    return {"LaunchTemplateAndOverrides": tried, "ErrorCode": error.code, "ErrorMessage": str(error.message)}


def extend_moto() -> None:
    """Let CreateFleet of an instant fleet report in `Errors` what it could not launch; moto's answer has no such field."""
    original = Fleets.create_fleet

    def create_fleet(self: Fleets) -> ActionResult:
        result = original(self)
        fields = result.result
        assert isinstance(fields, dict)
        errors = getattr(self.ec2_backend.get_fleet(fields["FleetId"]), "errors", [])
        return ActionResult({**fields, "Errors": errors}) if "Instances" in fields else result

    setattr(Fleets, "create_fleet", create_fleet)  # noqa: B010  # a class that moto mixes into its own
