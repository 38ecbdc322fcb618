"""What the embedded EC2 has no more of: instance types in zones for which a launch fails with InsufficientInstanceCapacity.

On AWS inf2 runs out like this. Here it does when told to, by PUT and DELETE on /localcloud/shortages/TYPE/ZONE.
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

CODE = "InsufficientInstanceCapacity"

_short: set[tuple[str, str]] = set()
_lock = Lock()


class Insufficient(EC2ClientError):
    """There is none left of that type in that zone."""

    def __init__(self, instance_type: str, zone: str) -> None:
        super().__init__(CODE, f"There is no capacity for {instance_type} in {zone} now; other zones or types may have some")


def begin(instance_type: str, zone: str) -> None:
    """None of that type can be launched in that zone any more; those that run go on."""
    with _lock:
        _short.add((instance_type, zone))


def end(instance_type: str, zone: str) -> None:
    """They can again."""
    with _lock:
        _short.discard((instance_type, zone))


def end_all() -> None:
    """There is enough of everything."""
    with _lock:
        _short.clear()


def all() -> list[dict[str, str]]:
    """What there is none of."""
    with _lock:
        return [{"instance_type": instance_type, "zone": zone} for instance_type, zone in sorted(_short)]


def check(instance_type: str, zone: str) -> None:
    """Insufficient when there is none."""
    with _lock:
        if (instance_type, zone) in _short:
            raise Insufficient(instance_type, zone)


class ShortFleet(Fleet):
    """A fleet that takes the cheapest of its launch specifications for which there is capacity, and tells of those without.

    It knows no prices, so the smallest type is the cheapest; of one type the specification that comes first. Their order says nothing:
    Karpenter gives types that need different launch templates in any.
    """

    def get_launch_spec_counts(self, weight_to_add: float) -> tuple[dict[SpotFleetLaunchSpec, int], float]:
        """How many of which; none when there is capacity for none of them."""
        wanted, there = self.launch_specs, []
        self.errors: list[dict[str, Any]] = []
        for spec in wanted:
            zone = self.ec2_backend.get_subnet(spec.subnet_id).availability_zone if spec.subnet_id else f"{self.ec2_backend.region_name}a"
            try:
                check(spec.instance_type, zone)
                there.append(spec)
            except Insufficient as error:
                self.errors.append(_error(spec, zone, error) | {"Lifecycle": self._lifecycle})
        if not there:
            return {}, 0
        self.launch_specs = sorted(there, key=lambda spec: _size(spec.instance_type))
        try:
            return super().get_launch_spec_counts(weight_to_add)
        finally:
            self.launch_specs = wanted

    @property
    def _lifecycle(self) -> str:
        return str(self.target_capacity_specification.get("DefaultTargetCapacityType") or "on-demand")


def _size(instance_type: str) -> tuple[int, int]:
    """vCPUs and MiB; of a type that is none nothing: its launch will say so."""
    known = INSTANCE_TYPES.get(instance_type)
    return (known["VCpuInfo"]["DefaultVCpus"], known["MemoryInfo"]["SizeInMiB"]) if known else (0, 0)


def _error(spec: SpotFleetLaunchSpec, zone: str, error: Insufficient) -> dict[str, Any]:
    tried = {
        "LaunchTemplateSpecification": spec.launch_template_spec,
        "Overrides": {**(spec.overrides or {}), "InstanceType": spec.instance_type, "AvailabilityZone": zone},
    }
    return {"LaunchTemplateAndOverrides": tried, "ErrorCode": CODE, "ErrorMessage": str(error.message)}


def install() -> None:
    """CreateFleet of an instant fleet tells what it could not launch, which moto's answer has no place for."""
    plain = Fleets.create_fleet

    def create_fleet(self: Fleets) -> ActionResult:
        result = plain(self)
        told = result.result
        assert isinstance(told, dict)
        errors = getattr(self.ec2_backend.get_fleet(told["FleetId"]), "errors", [])
        return ActionResult({**told, "Errors": errors}) if "Instances" in told else result

    setattr(Fleets, "create_fleet", create_fleet)  # noqa: B010  # a class that moto mixes into its own
