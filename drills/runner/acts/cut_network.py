"""A pod is cut off the network by a container that is added to it, which ends that by itself: see blackhole.py.

Not by a NetworkPolicy: not every network plug-in enforces those, and some leave connections alone that exist.
"""

from __future__ import annotations

import inspect
import time

from blocks.errors import Permanent
from drills.faults import CutNetwork
from drills.kubernetes import ownership
from drills.kubernetes.api import Api, Object, Refused
from drills.kubernetes.rights import Rule
from drills.observed import Snapshot
from drills.runner.acts import blackhole
from drills.runner.acts.act import Act, NothingToBreak, find_pod, find_same, pod_path
from drills.runner.waiting import Pending, Until
from drills.strikes import Strike, Target
from drills.subject import Subject

CUT_WITHIN_S = 40.0
"""Seconds until the added container has cut the pod off. Its image is on the node, so this is only its start."""
LATEST_S = 90.0
"""Seconds after the plan from which on the container cuts nothing any more: one that starts late must not surprise anybody."""
ALLOWED_WITHIN_S = 10.0
HEALED_WITHIN_S = 30.0
ENFORCE = "pod-security.kubernetes.io/enforce"
LIFTED = "leeward.dev/pod-security-lifted"
"""Annotation of a namespace of this pipeline whose Pod Security is lifted for a moment; its value is what it was."""
CUT, HEALED = "cut", "healed"
"""The words of blackhole.py, each with the time."""


class NotCut(Permanent):
    """The added container could not cut the pod off, or not let it back."""


def find(api: Api, subject: Subject, fault: CutNetwork, before: Snapshot | None) -> Strike:
    """Return the head or the worker as the target, if the API server would allow the container that cuts it off."""
    seen, _ = find_pod(api, subject, fault.of, fault.which, before)
    pod, at = api.get(pod_path(subject, seen.pod)), time.time()
    if pod["spec"].get("hostNetwork"):
        raise NothingToBreak(f"pod {seen.pod} has the network of its node (hostNetwork), so the node and all its pods would be cut off")
    target = Target(name=seen.pod, uid=seen.uid, node=seen.node or "", mark=f"leeward-cut-{int(at * 1000):x}")
    planned = Strike(act=fault.kind, target=target, at=at, undo=f"let {seen.pod} back into the network")
    try:
        _add_container(api, subject, pod, fault, planned, dry_run=True)
    except Refused as refused:
        if _ours(api, subject) is None:
            raise NothingToBreak(
                f"pod {seen.pod} is cut off by a container in it that runs as root with the capability NET_ADMIN, and that is refused: "
                f"{refused}. Where Pod Security refuses it, the namespace needs the label {ENFORCE}=privileged during the drill"
            ) from refused
    return planned


def strike(api: Api, subject: Subject, fault: CutNetwork, planned: Strike) -> Strike:
    """Add the container to the planned pod, unless an earlier try did, and wait until it has cut the pod off.

    Raises:
        NotCut: it ended before.
        TimedOut: it did not start.
    """
    pod = _struck_pod(api, subject, planned)
    if pod is None:
        raise NothingToBreak(f"pod {planned.target.name} was replaced by another one before it was cut off")
    if not _added(pod, planned):
        _lift_and_add(api, subject, pod, fault, planned)

    def probe() -> float | Pending:
        found = _struck_pod(api, subject, planned)
        said = _said(api, subject, planned)
        if CUT in said:
            return said[CUT]
        state = _state(found, planned)
        if found is None or "terminated" in state:
            raise NotCut(f"the container that cuts {planned.target} off ended: {_log(api, subject, planned)[-300:] or state}")
        return Pending(f"its container is {next(iter(state), 'not started')}: {state.get('waiting', {}).get('reason', '')}")

    at = min(time.time(), Until(f"{planned.target} to be cut off", probe, CUT_WITHIN_S, 0.25).wait())
    return planned.model_copy(update={"done": True, "at": at, "ended": at + fault.for_s, "told": fault.TOLD})


def undo(api: Api, subject: Subject, strike: Strike) -> None:
    """Let the pod back before its time; Pod Security of a namespace of ours is as before.

    Raises:
        NotCut: the rules are still there after the container's end.
        TimedOut: the container does not end.
    """
    _restore(api, subject)
    pod = _struck_pod(api, subject, strike)
    if pod is None or not _added(pod, strike):
        return
    told: list[bool] = []

    def probe() -> Object | Pending:
        found = _struck_pod(api, subject, strike)
        state = _state(found, strike)
        if found is None or "terminated" in state or ("running" not in state and time.time() > strike.at + LATEST_S):
            return state
        if "running" in state and not told:
            api.exec(subject.namespace, strike.target.name, strike.target.mark, ("touch", blackhole.HEAL))
            told.append(True)
        return Pending(f"its container is {next(iter(state), 'not started')}")

    within_s = HEALED_WITHIN_S + max(0.0, strike.at + LATEST_S - time.time())  # it may still start, and cut
    ended = Until(f"{strike.target} to be back in the network", probe, within_s, 0.5).wait().get("terminated", {})
    said = _said(api, subject, strike)
    if ended.get("exitCode") and CUT in said and HEALED not in said:
        raise NotCut(f"{strike.target} may still be cut off: the container that did it ended with {ended['exitCode']}. Delete the pod")


def _add_container(api: Api, subject: Subject, pod: Object, fault: CutNetwork, planned: Strike, *, dry_run: bool = False) -> None:
    """Add the container that cuts the pod off, to the pod with that UID."""
    near = {one["ip"] for one in pod["status"].get("hostIPs") or ()} | {pod["status"].get("hostIP", "")} - {""}
    latest = planned.at + LATEST_S
    program = ("python3", "-I", "-c", inspect.getsource(blackhole), f"{fault.for_s:g}", f"{latest:.0f}", *sorted(near))
    added = {
        "name": planned.target.mark,
        "image": pod["spec"]["containers"][0]["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": list(program),
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
    }
    body = {"metadata": {"uid": planned.target.uid}, "spec": {"ephemeralContainers": [added]}}
    path = f"{pod_path(subject, planned.target.name)}/ephemeralcontainers"
    query = {"dryRun": "All"} if dry_run else {}
    api.call("PATCH", path, query=query, body=body, content_type="application/strategic-merge-patch+json")


def _lift_and_add(api: Api, subject: Subject, pod: Object, fault: CutNetwork, planned: Strike) -> None:
    """Add the container. Pod Security is lifted meanwhile, if the namespace is one of this pipeline's; others' are not changed."""
    _restore(api, subject)  # an earlier try may have died while it was lifted
    namespace = _ours(api, subject)
    level = ((namespace or {}).get("metadata", {}).get("labels") or {}).get(ENFORCE)
    if level is None:
        _add_container(api, subject, pod, fault, planned)
        return

    def probe() -> bool | Pending:
        try:
            _add_container(api, subject, pod, fault, planned)
        except Refused as refused:
            if refused.status != 403:
                raise
            return Pending(str(refused))  # the API server learns of a label a moment later
        return True

    try:
        _label(api, subject, enforced="privileged", lifted=level)
        Until(f"the container that cuts {planned.target} off to be allowed", probe, ALLOWED_WITHIN_S, 0.2).wait()
    finally:
        _restore(api, subject)


def _restore(api: Api, subject: Subject) -> None:
    """Put Pod Security back to what it was, if it was lifted here."""
    level = ((_ours(api, subject) or {}).get("metadata", {}).get("annotations") or {}).get(LIFTED)
    if level is not None:
        _label(api, subject, enforced=level, lifted=None)


def _label(api: Api, subject: Subject, *, enforced: str, lifted: str | None) -> None:
    where = f"{ownership.NAMESPACES}/{subject.namespace}"
    api.merge(where, {"metadata": {"labels": {ENFORCE: enforced}, "annotations": {LIFTED: lifted}}})


def _ours(api: Api, subject: Subject) -> Object | None:
    """The namespace, if this pipeline created it; None also where this role may not read it."""
    try:
        found = api.find(f"{ownership.NAMESPACES}/{subject.namespace}")
    except Refused:
        return None
    return found if ownership.MADE_BY in ((found or {}).get("metadata", {}).get("annotations") or {}) else None


def _struck_pod(api: Api, subject: Subject, strike: Strike) -> Object | None:
    """The pod with that UID; None: it is gone, and its network with it."""
    return find_same(api, pod_path(subject, strike.target.name), strike.target.uid)


def _added(pod: Object, strike: Strike) -> bool:
    return any(container["name"] == strike.target.mark for container in pod["spec"].get("ephemeralContainers") or ())


def _state(pod: Object | None, strike: Strike) -> Object:
    """The state of the added container: waiting, running or terminated; empty when it has none yet, or the pod is gone."""
    found = (pod or {}).get("status", {}).get("ephemeralContainerStatuses") or ()
    return next((status.get("state") or {} for status in found if status["name"] == strike.target.mark), {})


def _said(api: Api, subject: Subject, strike: Strike) -> dict[str, float]:
    """What the added container has said so far, each word with its time."""
    lines = (line.split() for line in _log(api, subject, strike).splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2 and words[0] in (CUT, HEALED)}


def _log(api: Api, subject: Subject, strike: Strike) -> str:
    """The log of the added container; empty while there is none."""
    path = f"{pod_path(subject, strike.target.name)}/log"
    status, text = api.raw("GET", path, query={"container": strike.target.mark})
    return text.decode(errors="replace") if status == 200 else ""


ACT = Act(find, strike, needs=(Rule("pods/ephemeralcontainers", ("patch",)), Rule("pods/exec", ("get", "create"))), undo=undo)
