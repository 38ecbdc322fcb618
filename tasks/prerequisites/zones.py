"""Availability zones: whether EKS takes them, and whether they have the instance types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blocks.parameters import Infrastructure
from tasks.aws.leftovers import pages
from tasks.support.checks import Check

REFUSED_BY_EKS = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})
"""Ids of zones in which EKS makes no control plane; terraform/network.tf leaves them out, too."""


def check_zones(ec2: Any, infrastructure: Infrastructure) -> Check:
    """Check that enough zones are open, are taken by EKS and have the types, so that Terraform can choose or use the given ones."""
    inf2, core = infrastructure.inf2_nodes, infrastructure.core_nodes.instance_type
    found = ec2.describe_availability_zones(Filters=[{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}])["AvailabilityZones"]
    region = {zone["ZoneName"]: zone["ZoneId"] for zone in found if zone["State"] == "available"}
    usable = {name for name, id in region.items() if id not in REFUSED_BY_EKS}
    has_core, has_first, has_any = (
        _offer(ec2, types) for types in ([core], [inf2.instance_type], [inf2.instance_type, *inf2.fallback_types])
    )
    named = infrastructure.availability_zones
    wrong = [
        *(f"{zone} is no open zone of this region: those are {', '.join(sorted(region))}" for zone in named if zone not in region),
        *(f"EKS makes no cluster in {zone} ({region[zone]})" for zone in named if zone in region and zone not in usable),
        *(f"{zone} has no {core}" for zone in named if zone in usable and zone not in has_core),
    ]
    candidates = set(named) or usable & has_core
    if not named and len(candidates) < 2:
        wrong.append(f"fewer than two zones have {core}: {', '.join(sorted(candidates)) or 'none'}")
    inf2_zones = candidates & (has_any if inf2.provisioner == "karpenter" else has_first)
    if not inf2_zones:
        types = " or ".join(dict.fromkeys([inf2.instance_type, *inf2.fallback_types]))
        wrong.append(f"none of the zones has {types}; the region has them in {', '.join(sorted(usable & has_any)) or 'none'}")
    if wrong:
        return Check("zones", "bad", "; ".join(wrong))
    if not candidates & has_first:
        return Check("zones", "warning", f"no zone has {inf2.instance_type}: the dearer {', '.join(inf2.fallback_types)} will be used")
    if len(inf2_zones) < 2:
        return Check("zones", "warning", f"only {', '.join(inf2_zones)} has inf2: the loss of that zone takes all replicas")
    return Check("zones", "ok", ", ".join(sorted(inf2_zones)))


def _offer(ec2: Any, types: Sequence[str]) -> set[str]:
    wanted = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": list(types)}]}
    return {offering["Location"] for offering in pages(ec2, "describe_instance_type_offerings", "InstanceTypeOfferings", **wanted)}
