"""KubeRay's operator is kept from its work: a drill holds the lease without which it does nothing.

Nothing needs to be brought back. A lease that is not renewed runs out, and the operator, which tries to have it all the time, goes on.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import uuid4

from drills.faults import HoldOperator
from drills.kubernetes import leases
from drills.kubernetes.api import Api, Conflict, Object
from drills.kubernetes.rights import Rule
from drills.observed import Snapshot
from drills.runner.acts.act import Act, NothingToBreak
from drills.runner.waiting import Pending, Until
from drills.strikes import Strike, Target
from drills.subject import Subject

GROUP, NAME = "coordination.k8s.io", "ray-operator-leader"
"""The lease that KubeRay's operators elect their leader by, each in its own namespace."""
LETS_GO_S = 12.0
"""Seconds after which an operator that cannot renew its lease has ended: client-go tries for 10 s. Until then it may still work."""
WRITTEN_WITHIN_S = 20.0


def find(api: Api, subject: Subject, fault: HoldOperator, before: Snapshot | None) -> Strike:
    """Return the lease of the only operator that works in the cluster as the target."""
    found = api.items(f"/apis/{GROUP}/v1/leases", fieldSelector=f"metadata.name={NAME}")
    active = [lease for lease in found if leases.holder(lease, datetime.now(UTC))]
    if len(active) != 1:
        raise NothingToBreak(f"{len(active) or 'no'} operators of KubeRay hold a lease {NAME}: exactly one must, with leader election on")
    metadata = active[0]["metadata"]
    name = f"{metadata['namespace']}/{NAME}"
    target = Target(kind="lease", name=name, uid=metadata["uid"], mark=f"leeward-{uuid4().hex[:8]}")
    return Strike(act=fault.kind, target=target, at=time.time(), undo="let the operator work")


def strike(api: Api, subject: Subject, fault: HoldOperator, planned: Strike) -> Strike:
    """Take the lease, unless an earlier try did, and wait until its last holder has ended.

    Raises:
        NothingToBreak: the operator has it all the same.
    """

    def take() -> bool | Pending:
        lease = api.get(_path(planned))
        if lease["spec"].get("holderIdentity") == planned.target.mark:
            return True
        now = leases.text(datetime.now(UTC))
        held = {"holderIdentity": planned.target.mark, "acquireTime": now, "renewTime": now, "leaseDurationSeconds": round(fault.for_s)}
        try:
            _write(api, planned, lease, held)
        except Conflict as conflict:
            return Pending(str(conflict))  # its holder has renewed it since it was read
        return True

    Until(f"the lease {planned.target}", take, WRITTEN_WITHIN_S, 0.2).wait()
    time.sleep(LETS_GO_S)
    if api.get(_path(planned))["spec"].get("holderIdentity") != planned.target.mark:
        raise NothingToBreak(f"the operator took the lease {planned.target} back while it was held")
    at = time.time()
    return planned.model_copy(update={"done": True, "at": at, "ended": at + fault.for_s, "told": fault.TOLD})


def undo(api: Api, subject: Subject, strike: Strike) -> None:
    """Give the lease up, if it is still held here."""
    lease = api.find(_path(strike))
    if lease is not None and lease["spec"].get("holderIdentity") == strike.target.mark:
        _write(api, strike, lease, {"holderIdentity": "", "acquireTime": None, "renewTime": None})


def _write(api: Api, strike: Strike, lease: Object, spec: Object) -> None:
    """Write these fields of the lease, as it was read and with that UID."""
    version = {"uid": strike.target.uid, "resourceVersion": lease["metadata"]["resourceVersion"]}
    api.merge(_path(strike), {"metadata": version, "spec": spec})


def _path(strike: Strike) -> str:
    namespace, _, name = strike.target.name.partition("/")
    return f"/apis/{GROUP}/v1/namespaces/{namespace}/leases/{name}"


ACT = Act(find, strike, needs=(Rule("leases", ("get", "list", "patch"), group=GROUP, cluster=True, name=NAME),), undo=undo)
