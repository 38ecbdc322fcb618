"""Quotas of the account: whether everything that will be made fits beside what runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks.parameters import Infrastructure
from tasks.aws.account import Clients
from tasks.aws.leftovers import instances, pages, stack_tags
from tasks.support.checks import Check

VCPUS = {
    r"inf\d": "L-1945791B",
    r"trn\d": "L-2C3B7624",
    r"(g|gr|vt)\d": "L-DB2E81BA",
    r"p\d": "L-417A185B",
    r"f\d": "L-74FC7D96",
    r"x\d": "L-7295265B",
    r"dl\d": "L-6E869C2A",
    r"hpc\d": "L-F7808C92",
    r"u-|u\d": "L-43DA4232",
    r"(a|c|d|h|i|im|is|m|r|t|z)\d": "L-1216C47A",
}
"""Codes of EC2's quotas "Running On-Demand ... instances", which count vCPUs, by the beginning of the instance types."""
VPCS, ADDRESSES = ("vpc", "L-F678F1CE"), ("ec2", "L-0263D0A3")


@dataclass(frozen=True, slots=True)
class Instance:
    """A running on-demand instance: its type, and whether it belongs to the stack."""

    type: str
    own: bool


def family(instance_type: str) -> str:
    """Code of the quota that counts the instances of this type; empty: none is known."""
    return next((code for pattern, code in VCPUS.items() if re.match(pattern, instance_type)), "")


def check_quotas(session: Clients, infrastructure: Infrastructure) -> list[Check]:
    """Check every quota that the stack needs. What exists of the stack itself needs no room any more."""
    return [*_vcpu_checks(session, infrastructure), *_network_checks(session, infrastructure.name)]


def _vcpu_checks(session: Clients, infrastructure: Infrastructure) -> Iterator[Check]:
    ec2, core, inf2 = session.client("ec2"), infrastructure.core_nodes, infrastructure.inf2_nodes
    running = list(_running(ec2, infrastructure.name))
    types = {core.instance_type, inf2.instance_type, *inf2.fallback_types}
    vcpus = _vcpus(ec2, types | {each.type for each in running})
    for pool, kind, count, others in (
        ("core", core.instance_type, core.count, ()),
        ("inf2", inf2.instance_type, inf2.count, inf2.fallback_types),
    ):
        name, code = f"quota of {pool} nodes", family(kind)
        if not code or kind not in vcpus:
            yield Check(name, "not checked", f"EC2 does not know {kind}" if code else f"no quota of vCPUs is known for {kind}")
            continue
        quota = _quota(session, "ec2", code)
        if isinstance(quota, str):
            yield Check(name, "not checked", quota)
            continue
        counted = [each for each in running if family(each.type) == code]
        # A type that both pools share counts for both.
        beside = sum(vcpus[each.type] for each in counted if not each.own)
        if pool == "inf2" and family(core.instance_type) == code:
            beside += core.count * vcpus[core.instance_type]
        needed = count * vcpus[kind]
        words = f"{needed} vCPUs for {count} {kind}, {quota:.0f} allowed, {beside:.0f} used by others"
        if needed + beside > quota:
            yield Check(name, "bad", f"{words}: ask for more in Service Quotas (ec2/{code})")
            continue
        more = {f"{count} {each} in its place": count * vcpus[each] for each in others if each in vcpus}
        if pool == "inf2":
            more["a second Ray cluster beside the first (a new image)"] = 2 * needed
        short = [f"{wanted} for {what}" for what, wanted in more.items() if wanted + beside > quota]
        yield Check(name, "warning", f"{words}: too little for {'; '.join(short)}") if short else Check(name, "ok", words)


def _network_checks(session: Clients, name: str) -> Iterator[Check]:
    ec2 = session.client("ec2")
    for what, (service, code), operation, key in (
        ("VPCs", VPCS, "describe_vpcs", "Vpcs"),
        ("elastic addresses", ADDRESSES, "describe_addresses", "Addresses"),
    ):
        quota = _quota(session, service, code)
        if isinstance(quota, str):
            yield Check(f"quota of {what}", "not checked", quota)
            continue
        existing = pages(ec2, operation, key)
        own = any({"Key": "leeward:name", "Value": name} in each.get("Tags", ()) for each in existing)
        full = not own and len(existing) + 1 > quota
        words = f"{len(existing)} of {quota:.0f} exist{', one of this stack' if own else ''}"
        yield Check(
            f"quota of {what}", "bad" if full else "ok", words + (f": ask for more in Service Quotas ({service}/{code})" if full else "")
        )


def _quota(session: Clients, service: str, code: str) -> float | str:
    """The value of the quota, or why it could not be asked. Quotas that were never changed have only a default."""
    quotas = session.client("service-quotas")
    try:
        try:
            return float(quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"])
        except quotas.exceptions.NoSuchResourceException:
            return float(quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"])
    except ClientError as error:
        said = error.response["Error"]
        return f"Service Quotas answers {said['Code']} for {service}/{code}: {said.get('Message', '')}"
    except BotoCoreError as error:
        return f"Service Quotas could not be asked: {type(error).__name__}"


def _running(ec2: Any, name: str) -> Iterator[Instance]:
    own = stack_tags(name)
    for instance in instances(ec2, [{"Name": "instance-state-name", "Values": ["pending", "running"]}]):
        if instance.get("InstanceLifecycle") != "spot":
            tags = {(tag["Key"], tag["Value"]) for tag in instance.get("Tags", ())}
            yield Instance(instance["InstanceType"], bool(tags & own))


def _vcpus(ec2: Any, types: Iterable[str]) -> dict[str, int]:
    wanted = [{"Name": "instance-type", "Values": sorted(types)}]  # a filter: an unknown type is left out instead of an error for all
    return {
        each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"]
        for each in pages(ec2, "describe_instance_types", "InstanceTypes", Filters=wanted)
    }
