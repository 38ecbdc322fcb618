"""Leases as locks: pure functions on a Lease's JSON. drills/runner/journal.py reads and writes the objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from drills.kubernetes.api import Object

DURATION_S = 60
"""Seconds without renewal after which the holder counts as dead: six missed renewals."""
RENEW_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class HeldBy:
    """The lease has another holder, for `for_s` more seconds unless it is renewed."""

    owner: str
    for_s: float


def claim(lease: Object | None, owner: str, now: datetime, *, name: str, namespace: str) -> Object | HeldBy:
    """Return the lease to write so that `owner` holds it, or its present holder.

    The returned lease has the resourceVersion that was read, so of two simultaneous claims only one succeeds.
    """
    found = lease or {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace}}
    spec = found.get("spec") or {}
    is_holder = spec.get("holderIdentity") == owner
    left = remaining_s(found, now)
    if not is_holder and left > 0:
        return HeldBy(str(spec["holderIdentity"]), left)
    wanted = {
        "holderIdentity": owner,
        "leaseDurationSeconds": DURATION_S,
        "acquireTime": text((is_holder and _time(spec.get("acquireTime"))) or now),
        "renewTime": text(now),
        "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (lease is not None and not is_holder),
    }
    return {**found, "spec": wanted}


def released(lease: Object | None, owner: str) -> Object | None:
    """Return the lease to write so that it has no holder; None: `owner` does not hold it, and nothing must be written."""
    if lease is None or (lease.get("spec") or {}).get("holderIdentity") != owner:
        return None
    return {**lease, "spec": {**lease["spec"], "holderIdentity": "", "renewTime": None, "acquireTime": None}}


def holder(lease: Object | None, now: datetime) -> str:
    """The present holder; empty: there is none."""
    return str(lease["spec"]["holderIdentity"]) if lease is not None and remaining_s(lease, now) > 0 else ""


def acquired(lease: Object | None) -> datetime | None:
    """Time since which the holder has it; None: the lease has no such time."""
    return _time(((lease or {}).get("spec") or {}).get("acquireTime"))


def remaining_s(lease: Object, now: datetime) -> float:
    """Seconds for which it is held unless renewed; 0 or less: it is free. The clocks of two runners must agree to within a few seconds."""
    spec = lease.get("spec") or {}
    renewed = _time(spec.get("renewTime"))
    if not spec.get("holderIdentity") or renewed is None:
        return 0.0
    return (renewed + timedelta(seconds=int(spec.get("leaseDurationSeconds") or DURATION_S)) - now).total_seconds()


def text(moment: datetime) -> str:
    """Format a time as Kubernetes' MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
