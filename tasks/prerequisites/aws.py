"""What AWS must have: credentials that are accepted and last, a supported Kubernetes, availability zones with the instance types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from blocks.aws_session import AwsSession
from blocks.parameters import Infrastructure
from tasks.aws.leftovers import pages
from tasks.support.checks import Check

APPLY_TAKES_S = 2700.0
"""Seconds for which Terraform's credentials must be good: an apply takes 25 to 30 minutes on AWS, and they cannot be renewed in it."""
WARN_DAYS = 90
"""Days before the end of support from which a run warns: long enough to try the next version with a drill."""
REFUSED_BY_EKS = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})
"""Ids of zones in which EKS makes no control plane; terraform/network.tf leaves them out, too."""


def check_credentials(session: AwsSession) -> Check:
    """Check that AWS accepts the credentials, and that they do not end while Terraform runs."""
    try:
        who = session.client("sts").get_caller_identity()["Arn"]
        ends = session.new_credentials_end()
    except (ClientError, BotoCoreError) as error:
        return Check("credentials", "bad", f"AWS refuses them: {error}")
    if ends is None:
        return Check("credentials", "ok", who)
    if isinstance(ends, str):
        return Check("credentials", "not checked", f"{who}; {ends}")
    left = (ends - datetime.now(UTC)).total_seconds()
    detail = f"{who}; they end in {left / 60:.0f} min"
    if left < APPLY_TAKES_S:
        return Check(
            "credentials",
            "bad",
            f"{detail}, and Terraform may run for {APPLY_TAKES_S / 60:.0f}: give the target a role_arn, or log in again",
        )
    return Check("credentials", "ok", detail)


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("kubernetes.yaml").read_text(encoding="utf-8"))
    return found


def check_kubernetes(version: str, today: date) -> Check:
    """Check that the version is in EKS's standard support, and not about to leave it.

    It refuses nothing: AWS may have moved a date since, and another cloud has other dates.
    """
    table = _table()
    ends: date | None = table["standard_support_ends"].get(version)
    of = f"by AWS's calendar of {table['as_of']}"
    known = {tuple(map(int, each.split("."))) for each in table["standard_support_ends"]}
    if ends is None and tuple(map(int, version.split("."))) < min(known):
        return Check("Kubernetes", "warning", f"{version} has left EKS's standard support long ago, {of}: raise kubernetes_version")
    if ends is None:
        return Check("Kubernetes", "not checked", f"{of} the end of {version} is not known")
    words = f"standard support of {version} ends on {ends}, {of}"
    if today >= ends:
        return Check("Kubernetes", "warning", f"{words}: EKS upgrades such a cluster itself, and never back; raise kubernetes_version")
    if (ends - today).days < WARN_DAYS:
        return Check("Kubernetes", "warning", f"{words}: raise kubernetes_version before, and try the new one with a drill")
    return Check("Kubernetes", "ok", words)


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
