"""The faults of a drill: what is struck and how, how snapshots prove it, and the words for it.

A kind of fault is one class in `KINDS` here, and one act in `ACTS` of drills/runner/faults.py under the same name, which does it. Steady
state, trust, verdict, time line, report and series ask the fault; only a surge, after which the service must also grow, is known to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from drills.observed import Snapshot
from drills.strikes import Strike
from drills.value import Value

Grace = Literal["default", "forced"]
Of = Literal["head", "worker"]
Which = Literal["busiest", "idlest"]
Kebab = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
GRACES: Mapping[str, str] = {"default": "the pod's own grace period", "forced": "grace period 0"}


class When(Value):
    """The moment for a fault that follows another one: it is seen, or some time has passed."""

    seen: Literal["head-down", "head-ready", "worker-starting"] | None = None
    """head-down: the head is not ready, or not there. head-ready: the head is ready again. worker-starting: a worker that was not there
    before is not ready yet. All count once the fault before is proven."""

    within_s: Annotated[float, Field(ge=1, le=3600)] = 60
    """Seconds after the fault before within which it must be seen. After that this fault is not done, and the drill is void."""

    after_s: Annotated[float, Field(ge=0, le=600)] | None = None
    """Seconds after the fault before, as exact as the snapshots are frequent."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.seen is None) == (self.after_s is None):
            raise ValueError("give either `seen` or `after_s`")
        return self

    def met(self, before: Snapshot, now: Snapshot, earlier: Strike) -> bool:
        """Whether the moment has come, once the earlier fault is proven; `before` is the last snapshot before the first one."""
        if self.after_s is not None:
            return now.t >= earlier.at + self.after_s
        if self.seen == "worker-starting":
            return any(not worker.ready for worker in now.new_workers(before))
        ready = now.head is not None and now.head.ready
        return ready if self.seen == "head-ready" else not ready

    def over(self, now: Snapshot, earlier: Strike) -> bool:
        """Whether the moment has passed without being seen."""
        return self.after_s is None and now.t > earlier.at + self.within_s

    def __str__(self) -> str:
        return f"{self.after_s:g} s after the fault before" if self.after_s is not None else f"once seen: {self.seen}"


class Fault(Value):
    """What is broken on purpose: a base class, with one class for each kind."""

    TOLD: ClassVar[str] = ""
    """What the act tells when it saw the fault take effect; empty where only snapshots can show that."""

    kind: Kebab
    """Name of its class in `KINDS` of drills/faults.py and of its act in drills/runner/faults.py."""

    when: When | None = None
    """When it is done, if it is not the first fault of its drill."""

    def happened(self, before: Snapshot, now: Snapshot, strike: Strike) -> bool:
        """Whether it is proven that the fault took effect on the very thing that was struck. False where there is not enough to tell.

        Once true it must stay true, also when the service has recovered: a pod has another UID, a container was restarted once more.

        Args:
            before: The last snapshot before the drill's first fault.
            now: A snapshot after the strike.
        """
        return bool(self.TOLD) and strike.told == self.TOLD

    def unproven(self, strike: Strike) -> str:
        """Return the clause that reasons give when nothing proves it."""
        return f"what a fault of the kind {self.kind} changes is not known"

    def describe(self) -> str:
        """Return the fault in words."""
        return self.kind

    @property
    def needs_gcs_storage(self) -> bool:
        """Whether workers survive the fault only with GCS fault tolerance. The reasons of a failed verdict then name it where it is off."""
        return False

    @property
    def orderly(self) -> bool:
        """Whether the pods that it takes away are asked to end, and have their grace period for it."""
        return False

    @property
    def lasts_s(self) -> float:
        """Seconds that the fault lasts."""
        return 0.0

    def other_grace(self) -> Self:
        """Return the fault with the other grace; itself when it has none."""
        return self


class UnknownFault(Fault):
    """A fault of a kind that is not known here. Evidence of it can be read; nothing proves it, and it cannot be done."""

    model_config = ConfigDict(extra="allow")


class PodFault(Fault):
    """A fault of the head, or of a worker: a base class, too."""

    of: Of = "head"
    """The pod that it is about: the head, or a worker."""

    which: Which = "busiest"
    """The worker, where there are several: the one with most running replicas, or with fewest; the first by name of those."""


class DeletePod(PodFault):
    """A pod is deleted."""

    kind: Literal["delete-pod"] = "delete-pod"

    grace: Grace = "default"
    """default: the pod ends as in a node drain, with its own termination grace period. forced: grace period 0, so that it leaves the API
    server at once, and its containers have the 2 s that kubelet always gives. Default is the most frequent case; forced has drills of its
    own."""

    def happened(self, before: Snapshot, now: Snapshot, strike: Strike) -> bool:
        """Whether the struck pod is gone: another one of its name has another UID."""
        return pod_gone(now, strike.target.uid)

    def unproven(self, strike: Strike) -> str:
        return f"the {self.of} pod has the same UID as before"

    def describe(self) -> str:
        return f"{self.kind} of the {self.of}, {GRACES[self.grace]}"

    @property
    def needs_gcs_storage(self) -> bool:
        return self.of == "head"

    @property
    def orderly(self) -> bool:
        """Whether the pod has its own grace period."""
        return self.grace == "default"

    def other_grace(self) -> Self:
        return self.model_copy(update={"grace": "forced" if self.grace == "default" else "default"})


Process = Literal["gcs_server", "raylet", "dashboard", "log_monitor", "serve-controller", "serve-proxy", "replica"]
SERVE = ("serve-controller", "serve-proxy", "replica")
"""Processes that are actors of Serve: Ray is asked for their ids."""
SIGNALS = {"KILL": "killed", "TERM": "terminated", "STOP": "stopped"}


class Signal(PodFault):
    """One process in a Ray container gets a signal."""

    kind: Literal["signal"] = "signal"

    process: Process
    """One of Ray's own processes, the Serve proxy of the pod, or a replica there; or the Serve controller, in whatever pod it is."""

    deployment: str = ""
    """The deployment of the replica; empty: the first one that Ray lists. It lists a deployment before those that call it."""

    signal: Literal["KILL", "TERM", "STOP"] = "KILL"
    """KILL: as in a crash. TERM: as when it is asked to end. STOP: it hangs for `hold_s`, and then goes on."""

    hold_s: Annotated[float, Field(gt=0, le=600)] | None = None
    """Seconds that STOP lasts. A timer in the container ends it, whatever becomes of the drill."""

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if (self.signal == "STOP") != (self.hold_s is not None):
            raise ValueError("`hold_s` belongs to STOP, and STOP needs it")
        return self

    def happened(self, before: Snapshot, now: Snapshot, strike: Strike) -> bool:
        """Whether the act saw the process end or stop; or its container, or its pod, is another one."""
        if strike.told == ("stopped" if self.signal == "STOP" else "gone") or pod_gone(now, *strike.target.pods):
            return True
        containers = [pod.container for pod in now.pods if pod.uid in strike.target.pods]
        return any(container and container != strike.target.container for container in containers)

    def unproven(self, strike: Strike) -> str:
        return f"the process {strike.target} was not seen to have {'stopped' if self.signal == 'STOP' else 'ended'}"

    def describe(self) -> str:
        name = f"replica of {self.deployment}" if self.deployment else self.process
        where = "" if self.process == "serve-controller" else f" of the {self.of}"
        return f"{name}{where} {SIGNALS[self.signal]}" + (f" for {self.hold_s:g} s" if self.hold_s else "")

    @property
    def needs_gcs_storage(self) -> bool:
        """Whether the signal may end the GCS, or the container that it runs in."""
        return self.of == "head" and self.process not in SERVE

    @property
    def lasts_s(self) -> float:
        return self.hold_s or 0.0


class DrainNode(PodFault):
    """The service's pods on a node are evicted, and the node takes no new ones until the drill has seen the recovery."""

    kind: Literal["drain-node"] = "drain-node"

    of: Of = "worker"
    """The pod whose node is drained: the head, or a worker."""

    def happened(self, before: Snapshot, now: Snapshot, strike: Strike) -> bool:
        """Whether all pods of the service that were on the node are gone."""
        return pod_gone(now, *strike.target.pods)

    def unproven(self, strike: Strike) -> str:
        return f"pods that were on node {strike.target.name} are still there"

    def describe(self) -> str:
        return f"{self.kind} of the {self.of}"

    @property
    def needs_gcs_storage(self) -> bool:
        return self.of == "head"

    @property
    def orderly(self) -> bool:
        """Whether pods are evicted, which they always are."""
        return True


class CutNetwork(PodFault):
    """A pod reaches nothing but itself and its node for some seconds, and then everything again."""

    TOLD = "cut"
    """The kernel of the pod has no way out of it any more, but to its node."""

    kind: Literal["cut-network"] = "cut-network"

    for_s: Annotated[float, Field(ge=1, le=600)] = 30
    """Seconds that it lasts. A timer in the pod ends it, whatever becomes of the drill."""

    def unproven(self, strike: Strike) -> str:
        return f"the {self.of} pod was not seen to be cut off"

    def describe(self) -> str:
        return f"{self.of} cut off the network for {self.for_s:g} s"

    @property
    def lasts_s(self) -> float:
        return self.for_s


class Surge(Fault):
    """The load is multiplied until the service has grown, and for some time after that."""

    TOLD = "multiplied"
    """The load said so. That it sent as much is a matter of its records."""

    kind: Literal["surge"] = "surge"

    factor: Annotated[int, Field(ge=2, le=10)] = 2
    """Load during the surge, as a multiple of the drill's."""

    hold_s: Annotated[float, Field(ge=10, le=1800)] = 60
    """Seconds for which it goes on once more workers answer."""

    grow_within_s: Annotated[float, Field(ge=30, le=3600)] = 600
    """Seconds within which more workers must answer; without them the surge ends then."""

    carried: Annotated[float, Field(gt=0)] | None = None
    """Requests under way that the service is sized for without growing, for the reasons of a failed verdict; None: not known."""

    def unproven(self, strike: Strike) -> str:
        return "the load was not multiplied"

    def describe(self) -> str:
        return f"the load multiplied by {self.factor}"

    @property
    def lasts_s(self) -> float:
        """Seconds that it lasts at most."""
        return self.grow_within_s + self.hold_s

    def grown_at(self, before: Snapshot, later: Iterable[Snapshot], strike: Strike) -> float | None:
        """Return when more workers answered than before; None when they did not."""
        return next((s.t for s in later if s.t > strike.at and s.answers_more_than(before)), None)

    def ends_at(self, before: Snapshot, later: Iterable[Snapshot], strike: Strike) -> float:
        """Return when it has to end, by what was seen so far."""
        grown = self.grown_at(before, later, strike)
        return strike.at + self.grow_within_s if grown is None else grown + self.hold_s


class HoldOperator(Fault):
    """KubeRay's operator does nothing for some seconds, in the whole cluster."""

    TOLD = "held"
    """The lease was held for so long that an operator without it has ended."""

    kind: Literal["hold-operator"] = "hold-operator"

    for_s: Annotated[float, Field(ge=15, le=600)] = 60
    """Seconds that it lasts, from when the operator has ended. Then its lease runs out, whatever becomes of the drill."""

    def unproven(self, strike: Strike) -> str:
        return f"the lease {strike.target} of KubeRay's operator was not seen to be held"

    def describe(self) -> str:
        return f"KubeRay's operator away for {self.for_s:g} s"

    @property
    def lasts_s(self) -> float:
        return self.for_s


KINDS: dict[str, type[Fault]] = {
    "delete-pod": DeletePod,
    "signal": Signal,
    "drain-node": DrainNode,
    "cut-network": CutNetwork,
    "surge": Surge,
    "hold-operator": HoldOperator,
}
"""The class of each kind of fault."""


def read_fault(found: Any) -> Any:
    """Return the fault of that kind for a mapping from YAML or evidence; anything else as it is.

    `delete-head-pod` is read as what it is called now: evidence and journals have it from before there were other faults.
    """
    if not isinstance(found, Mapping):
        return found
    values: dict[str, Any] = {"kind": "delete-pod", **found}
    if values["kind"] == "delete-head-pod":
        values = {"kind": "delete-pod", "of": "head", "grace": values.get("grace", "default")}
    kind = values["kind"]
    return KINDS.get(kind if isinstance(kind, str) else "", UnknownFault).model_validate(values)


def listed(found: Any) -> Any:
    """Return a mapping that has `fault` with that fault as its only one of `faults`; anything else as it is."""
    if isinstance(found, dict) and "fault" in found and "faults" not in found:
        return {**{key: value for key, value in found.items() if key != "fault"}, "faults": [found["fault"]]}
    return found


AnyFault = Annotated[SerializeAsAny[Fault], BeforeValidator(read_fault)]
"""A fault of any kind, by its `kind`. It is no closed union, so that a kind may be added to `KINDS` from outside."""


def pod_gone(now: Snapshot, *uids: str) -> bool:
    """Return whether none of these pods is there; False without any."""
    return bool(uids) and not {pod.uid for pod in now.pods} & set(uids)


def unproven(faults: Sequence[Fault], strikes: Sequence[Strike], before: Snapshot, now: Snapshot) -> list[str]:
    """Return why it is not known that all faults were done by then, and are over; empty when it is."""
    reasons = []
    for fault, strike in zip(faults, strikes, strict=False):
        if now.t <= strike.at or not fault.happened(before, now, strike):
            reasons.append(fault.unproven(strike))
        elif now.t < strike.healed_at:
            reasons.append("the fault still lasts")
    if len(strikes) < len(faults):
        reasons.append(f"fault {len(strikes) + 1} of {len(faults)} was not done ({faults[len(strikes)].describe()})")
    return reasons
