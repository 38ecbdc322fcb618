"""Everything that exists in the embedded AWS, read from moto's books themselves; what came since a baseline.

A generic walk over every container of every service, so that a service nobody thought of is listed as well.
Left out are moto's bookkeeping and what AWS too keeps for a while after deletion.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import Any

from moto.backends import SERVICE_NAMES, get_backend
from moto.core.base_backend import BackendDict

from localcloud import settings
from localcloud.aws import current_machine
from localcloud.aws.auth import credentials
from localcloud.machine.interface import Inventoried

Inventory = dict[str, dict[str, list[str]]]
"""service and region → kind → ids"""

_BOOKKEEPING = {
    "ec2": {
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
    },
    "iam": {"access_keys", "aws_managed_policies", "managed_policies"},
    "sts": {"assumed_roles"},
}
"""Reference data, indexes of what is listed elsewhere, and sessions, which end by themselves."""
_SERVICES: tuple[SERVICE_NAMES, ...] = (
    "autoscaling", "ec2", "ecr", "eks", "elasticache", "events", "iam", "kms", "logs", "s3", "secretsmanager", "sqs", "ssm", "sts",
)  # fmt: skip
"""Those whose books are opened for the baseline, because a new book may not be empty."""
_NOT_AWS = {"moto_api", "instance_metadata"}
_GONE = {"closed", "deleted", "deleting", "terminated", "PendingDeletion"}
_lock = Lock()
_baseline: dict[tuple[str, str, str], dict[str, list[str]]] = {}


def everything() -> Inventory:
    """All that exists now; with the machine's own list when it offers one."""
    found = {_title(key): kinds for key, kinds in _walk().items() if kinds}
    machine = current_machine.machine()
    if isinstance(machine, Inventoried):
        real = {kind: sorted(ids) for kind, ids in machine.inventory().items() if ids}
        found |= {"machine": real} if real else {}
    return found


def remember() -> None:
    """What exists now is the baseline, with the default VPC and its like of services not asked for yet."""
    for service in _SERVICES:
        books: Any = get_backend(service)[settings.ACCOUNT]
        # Moto opens us-east-1 of a service with its first request, wherever that goes.
        for region in {settings.REGION, "us-east-1"} & set(books.regions) or {credentials.PARTITION}:
            books[region]
    with _lock:
        _baseline.clear()
        _baseline.update(_walk())


def leftovers() -> Inventory:
    """What exists beyond the baseline. The machine's list has no baseline: all of it counts."""
    with _lock:
        known = dict(_baseline)
    found: Inventory = {}
    for key, kinds in _walk().items():
        more = _beyond(kinds, known.get(key, {}))
        if more:
            found[_title(key)] = more
    machine = everything().get("machine")
    return found | ({"machine": machine} if machine else {})


def _beyond(kinds: dict[str, list[str]], base: dict[str, list[str]]) -> dict[str, list[str]]:
    more = {kind: list((Counter(ids) - Counter(base.get(kind, []))).elements()) for kind, ids in kinds.items()}
    return {kind: ids for kind, ids in more.items() if ids}


def _title(key: tuple[str, str, str]) -> str:
    service, account, region = key
    return f"{service}/{region}" if account == settings.ACCOUNT else f"{service}/{region}/{account}"


def _walk() -> dict[tuple[str, str, str], dict[str, list[str]]]:
    found = {}
    for books in list(BackendDict._instances):  # type: ignore[misc]  # moto's own generic is not typed further
        if books.service_name in _NOT_AWS:
            continue
        for account, region, backend in list(books.iter_backends()):
            found[books.service_name, account, region] = _contents(books.service_name, backend)
    return found


def _contents(service: str, backend: Any) -> dict[str, list[str]]:
    skipped = _BOOKKEEPING.get(service, set())
    kinds = {kind: _ids(value) for kind, value in list(vars(backend).items()) if kind not in skipped and not kind.startswith("_url")}
    return {kind: sorted(ids) for kind, ids in kinds.items() if ids}


def _ids(value: Any, depth: int = 0) -> list[str]:
    if isinstance(value, dict):
        return [id_ for name, item in list(value.items()) if not _is_gone(item) for id_ in _ids_of_item(name, item, depth)]
    if isinstance(value, (list, set, tuple)):
        return [str(getattr(x, "id", None) or getattr(x, "arn", None) or getattr(x, "name", None) or x) for x in list(value)]
    return []


def _ids_of_item(name: Any, item: Any, depth: int) -> list[str]:
    if type(item) in (dict, list, set) and depth < 2:
        return [f"{name}/{inner}" for inner in _ids(item, depth + 1)]
    rules = getattr(item, "rules", None)  # of an event bus: the default one is nobody's, its rules are somebody's
    return [str(name), *(f"{name}/{rule}" for rule in (rules if isinstance(rules, dict) else ()))]


def _is_gone(item: Any) -> bool:
    """Whether it counts as no longer, or never, the user's."""
    if any(str(alias).startswith("alias/aws/") for alias in getattr(item, "aliases", None) or ()):
        return True  # a KMS key of AWS's own, made by the first use of encryption: nobody can delete it
    members = getattr(item, "instances", None)
    if members:  # a reservation lasts as long as one of its instances
        return all(_is_gone(member) for member in members)
    states = (getattr(item, name, None) for name in ("state", "key_state", "status"))
    return any(isinstance(state, str) and state in _GONE for state in states)
