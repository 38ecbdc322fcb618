"""A pod is deleted by its UID, with its own grace period or with none."""

from __future__ import annotations

import time
from contextlib import suppress

from drills.faults import DeletePod
from drills.kubernetes.api import Api, Conflict
from drills.kubernetes.rights import Rule
from drills.observed import Snapshot
from drills.runner.acts.act import Act, find_pod, find_same, pod_path
from drills.strikes import Strike, Target
from drills.subject import Subject


def find(api: Api, subject: Subject, fault: DeletePod, before: Snapshot | None) -> Strike:
    """Return the head or the worker as the target."""
    pod, _ = find_pod(api, subject, fault.of, fault.which, before)
    return Strike(act=fault.kind, target=Target(name=pod.pod, uid=pod.uid, node=pod.node or ""), at=time.time())


def strike(api: Api, subject: Subject, fault: DeletePod, planned: Strike) -> Strike:
    """Delete the planned pod unless an earlier try did. A pod of the same name with another UID is not touched."""
    path = pod_path(subject, planned.target.name)
    pod = find_same(api, path, planned.target.uid)
    if pod is None or "deletionTimestamp" in pod["metadata"]:
        # An earlier try did it, at about the time it had written down.
        return planned.model_copy(update={"done": True})
    at = time.time()
    with suppress(Conflict):  # gone since it was read
        api.delete(path, uid=planned.target.uid, grace_s=0 if fault.grace == "forced" else None)
    return planned.model_copy(update={"done": True, "at": at})


ACT = Act(find, strike, needs=(Rule("pods", ("delete",)),))
