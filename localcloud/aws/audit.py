"""What exists in the embedded AWS, read from moto's backends themselves, and what has been added since a baseline.

It walks every container of every backend in use, so a service that is not in the table is listed too. Left out are the
attributes that the table calls no resources, and what AWS too keeps for a while after deletion.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import Any, cast

from moto.backends import SERVICE_NAMES, get_backend
from moto.core.base_backend import BackendDict

from localcloud import settings
from localcloud.aws import current_machine, services
from localcloud.aws.auth import credentials
from localcloud.machine.interface import Inventoried

Inventory = dict[str, dict[str, list[str]]]
"""Service and region → kind → ids."""

_NOT_AWS = {"moto_api", "instance_metadata"}
_DELETED = {"closed", "deleted", "deleting", "terminated", "PendingDeletion"}
_lock = Lock()
_baseline: dict[tuple[str, str, str], dict[str, list[str]]] = {}


def inventory() -> Inventory:
    """Everything that exists now, with what the machine made if it can list that."""
    found = {_title(key): kinds for key, kinds in _walk().items() if kinds}
    machine = current_machine.machine()
    if isinstance(machine, Inventoried):
        real = {kind: sorted(ids) for kind, ids in machine.inventory().items() if ids}
        found |= {"machine": real} if real else {}
    return found


def set_baseline() -> None:
    """Make what exists now the baseline.

    A new backend may not be empty (EC2's has a default VPC), so those of all services in the table are made first.
    """
    for service in services.SERVICES:
        if service.answer:
            continue
        backends: Any = get_backend(cast(SERVICE_NAMES, service.name))[settings.ACCOUNT]
        # Moto makes the backend of us-east-1 on a service's first request, whichever region that is for.
        for region in {settings.REGION, "us-east-1"} & set(backends.regions) or {credentials.PARTITION}:
            backends[region]
    with _lock:
        _baseline.clear()
        _baseline.update(_walk())


def leftovers() -> Inventory:
    """What exists beyond the baseline. What the machine made has no baseline: all of it counts."""
    with _lock:
        known = dict(_baseline)
    found: Inventory = {}
    for key, kinds in _walk().items():
        more = _beyond(kinds, known.get(key, {}))
        if more:
            found[_title(key)] = more
    machine = inventory().get("machine")
    return found | ({"machine": machine} if machine else {})


def _beyond(kinds: dict[str, list[str]], base: dict[str, list[str]]) -> dict[str, list[str]]:
    more = {kind: list((Counter(ids) - Counter(base.get(kind, []))).elements()) for kind, ids in kinds.items()}
    return {kind: ids for kind, ids in more.items() if ids}


def _title(key: tuple[str, str, str]) -> str:
    service, account, region = key
    return f"{service}/{region}" if account == settings.ACCOUNT else f"{service}/{region}/{account}"


def _walk() -> dict[tuple[str, str, str], dict[str, list[str]]]:
    found = {}
    for backends in list(BackendDict._instances):  # type: ignore[misc]  # moto's own generic is not typed further
        if backends.service_name in _NOT_AWS:
            continue
        for account, region, backend in list(backends.iter_backends()):
            found[backends.service_name, account, region] = _contents(backends.service_name, backend)
    return found


def _contents(name: str, backend: Any) -> dict[str, list[str]]:
    service = services.find(name)
    skipped = service.not_resources if service else frozenset[str]()
    kinds = {kind: _ids(value) for kind, value in list(vars(backend).items()) if kind not in skipped and not kind.startswith("_url")}
    return {kind: sorted(ids) for kind, ids in kinds.items() if ids}


def _ids(value: Any, depth: int = 0) -> list[str]:
    if isinstance(value, dict):
        return [id_ for name, item in list(value.items()) if not _is_deleted(item) for id_ in _ids_of_item(name, item, depth)]
    if isinstance(value, (list, set, tuple)):
        return [str(getattr(x, "id", None) or getattr(x, "arn", None) or getattr(x, "name", None) or x) for x in list(value)]
    return []


def _ids_of_item(name: Any, item: Any, depth: int) -> list[str]:
    if type(item) in (dict, list, set) and depth < 2:
        return [f"{name}/{inner}" for inner in _ids(item, depth + 1)]
    rules = getattr(item, "rules", None)  # an event bus: the default bus is AWS's, the rules on it are the user's
    return [str(name), *(f"{name}/{rule}" for rule in (rules if isinstance(rules, dict) else ()))]


def _is_deleted(item: Any) -> bool:
    """Whether the item is deleted, or was never the user's."""
    if any(str(alias).startswith("alias/aws/") for alias in getattr(item, "aliases", None) or ()):
        return True  # a KMS key of AWS's own: the first use of encryption makes it, and no user can delete it
    members = getattr(item, "instances", None)
    if members:  # a reservation lasts as long as one of its instances
        return all(_is_deleted(member) for member in members)
    states = (getattr(item, name, None) for name in ("state", "key_state", "status"))
    return any(isinstance(state, str) and state in _DELETED for state in states)
