"""What was observed of the cluster and of the load, as frozen values. drills/runner fills them; everything else in drills/ reads them.

All times are seconds since the epoch on the *observer's* clock (the machine that runs the drill), except in `LoadSeen`
and in the records, which are on the load's clock; `Observation.clock_offset_s` is what to subtract from those.
"Could not be asked" is None and never an empty value: while the head is away Ray cannot be asked for its replicas,
and that must not look like "there are none".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from drills.load.template import Check
from drills.records import Kind
from drills.strikes import Strike
from drills.value import Seconds, Value

EventKind = Literal["fault", "milestone", "trouble", "note"]
"""How an event is drawn: the fault itself; a step towards recovery; something lost; anything else (listed, not drawn)."""


class PodSeen(Value):
    """A pod of the Ray cluster at one moment."""

    pod: str
    uid: str
    restarts: int = 0
    """Restarts of its Ray container."""
    container: str | None = None
    """Id of its Ray container; None when it has none yet."""
    node: str | None = None
    ready: bool = False
    """Condition Ready and not being deleted."""
    grace_s: Seconds | None = None
    """Seconds between the signal to end and the kill, by its specification."""


class HeadSeen(PodSeen):
    """The head pod of the Ray cluster."""

    running: bool = False
    """Phase Running and not being deleted."""


class WorkerSeen(PodSeen):
    """A worker pod of the Ray cluster."""

    head_patience_s: Seconds | None = None
    """Seconds that it waits for a head that does not answer, by its environment; None when that does not say it."""


class ActorSeen(Value):
    """The Serve controller, or the Serve proxy of a node, as Ray lists it."""

    actor_id: str
    """A proxy that ended is replaced by another actor; the controller is restarted as the same one."""
    worker_id: str = ""
    """Id of its process: another one means that the actor was restarted."""
    status: str = ""
    """The status of a proxy in Ray's spelling: HEALTHY, UNHEALTHY, …"""
    pod: str | None = None


class ReplicaSeen(Value):
    """A replica of a Serve deployment, as Ray lists it."""

    actor_id: str
    """Another id on the same pod means that the replica was started again, and the model of an engine loaded again."""
    deployment: str = ""
    state: str = "RUNNING"
    """The state in Ray's spelling."""
    pod: str | None = None
    node: str | None = None


class DeploymentSeen(Value):
    """A deployment of the Serve application."""

    name: str
    status: str
    """The status in Ray's spelling: HEALTHY, UPDATING, UNHEALTHY, …"""
    max_ongoing: int | None = None
    """Requests that one replica takes at once; None when Ray does not say it."""
    grace_s: Seconds | None = None
    """Seconds that a replica has to finish what it answers before it is ended; None when Ray does not say it."""


class Answer(Value):
    """One real request that was sent to the service by the observer."""

    ok: bool
    detail: str = ""
    """The HTTP status and the answer; empty when ok."""


class Snapshot(Value):
    """The service at one moment."""

    t: Seconds
    conditions: dict[str, bool] = Field(default_factory=dict)
    """Conditions of the RayService by type, True when their status is "True". `Ready` must be among them."""
    app_status: str | None = None
    """The Serve application's status, RUNNING when it is healthy; None when Ray could not be asked."""
    deployments: tuple[DeploymentSeen, ...] | None = None
    """None when Ray could not be asked."""
    replicas: tuple[ReplicaSeen, ...] | None = None
    """None when Ray could not be asked."""
    controller: ActorSeen | None = None
    """None when Ray could not be asked."""
    proxies: tuple[ActorSeen, ...] | None = None
    """None when Ray could not be asked."""
    head: HeadSeen | None = None
    """The head pod that is not being deleted, else one that is being deleted; None when there is no head pod."""
    workers: tuple[WorkerSeen, ...] = ()
    endpoints: tuple[str, ...] = ()
    """Names of the pods that are ready behind the serve service."""
    gcs_storage: bool | None = None
    """Whether GCS keeps its state in Redis (GCS fault tolerance); None when not known."""
    head_address_stays: bool | None = None
    """Whether the head's Service has an address of its own, which stays the same for every head; None when not known."""
    answer: Answer | None = None
    """None when no request was sent."""
    nodes: tuple[str, ...] | None = None
    """Names of the model's nodes that are Ready; None when they were not asked for."""
    claims: tuple[str, ...] = ()
    """Names of Karpenter's NodeClaims for such nodes."""

    @property
    def ready(self) -> bool:
        """Whether the RayService has the condition Ready."""
        return self.conditions.get("Ready", False)

    @property
    def blind(self) -> bool:
        """Whether Ray could not be asked at this moment."""
        return self.app_status is None or self.replicas is None

    @property
    def pods(self) -> tuple[PodSeen, ...]:
        """The head, if there is one, and the workers."""
        return (*([self.head] if self.head else []), *self.workers)

    @property
    def launched(self) -> int:
        """Number of the model's nodes that are Ready, being launched or being ended."""
        return max(len(self.nodes or ()), len(self.claims))

    @property
    def answering(self) -> tuple[WorkerSeen, ...]:
        """The workers to which requests are sent."""
        return tuple(w for w in self.workers if w.pod in self.endpoints)

    @property
    def sets(self) -> int | None:
        """Number of running replicas of the deployment that has fewest; None when Ray could not be asked."""
        return None if self.replicas is None else min(map(len, self.running().values()), default=0)

    def new_workers(self, before: Snapshot) -> tuple[WorkerSeen, ...]:
        """The worker pods that were not there before."""
        known = {w.uid for w in before.workers}
        return tuple(w for w in self.workers if w.uid not in known)

    def answers_more_than(self, before: Snapshot) -> bool:
        """Whether requests are sent to more workers than before, and more replicas of all deployments run."""
        more = self.sets is not None and before.sets is not None and self.sets > before.sets
        return more and len(self.answering) > len(before.answering)

    def filled_from(self, earlier: Snapshot) -> Snapshot:
        """This snapshot, with what could not be asked now as it was earlier."""
        asked = ("app_status", "deployments", "replicas", "controller", "proxies", "gcs_storage", "head_address_stays", "answer")
        return self.model_copy(update={name: getattr(earlier, name) for name in asked if getattr(self, name) is None})

    def running(self) -> dict[str, tuple[ReplicaSeen, ...]]:
        """The running replicas of every deployment that Ray lists; empty when it could not be asked."""
        if self.replicas is None:
            return {}
        names = [*(d.name for d in self.deployments or ()), *(r.deployment for r in self.replicas)]
        up = [r for r in self.replicas if r.state == "RUNNING"]
        return {name: tuple(r for r in up if r.deployment == name) for name in dict.fromkeys(names)}

    def replicas_on(self, pod: str) -> dict[str, tuple[str, ...]] | None:
        """Sorted actor ids of the running replicas on that pod, by deployment; None when Ray could not be asked."""
        if self.replicas is None:
            return None
        found = {name: tuple(sorted(r.actor_id for r in those if r.pod == pod)) for name, those in self.running().items()}
        return {name: ids for name, ids in found.items() if ids}


class Event(Value):
    """Something that happened, on the time line."""

    t: Seconds
    what: str
    """A few words: "head pod deleted"."""
    kind: EventKind = "note"
    subject: str = ""
    """Name of the object it happened to."""
    detail: str = ""
    """The message of Kubernetes or Ray, unchanged."""


class Versions(Value):
    """The versions that ran; empty where one could not be read."""

    leeward: str = ""
    kubernetes: str = ""
    kuberay: str = ""
    ray: str = ""
    image: str = ""
    """Image of the serving pods, with its digest."""
    more: dict[str, str] = Field(default_factory=dict)
    """Anything else worth keeping: model, Redis, Terraform, …"""


class LoadSeen(Value):
    """What the load generator reports of itself, on its own clock."""

    started: Seconds
    """When the first request was due."""
    stopped: Seconds
    """The moment after which no request was due."""
    sent: int
    """Number of requests it reports; there must be as many records."""
    node: str = ""
    """The node that it ran on; the fault must not touch it."""
    checks: dict[Kind, Check] = Field(default_factory=dict)
    """How answers were compared with a healthy server's, by kind of request: ids, text, not-empty or status."""


class Footprint(Value):
    """Resources that could grow from fault to fault, read after each recovery; None where one could not be read."""

    head_memory_bytes: int | None = None
    """Working set of the head pod."""
    redis_entries: int | None = None
    """Fields of all hashes that the Ray cluster has in Redis."""
    dead_actors: int | None = None
    """Actors that ended and that the GCS still lists."""


FootprintOrVitals = Annotated[Footprint, Field(validation_alias=AliasChoices("footprint", "vitals"), serialization_alias="vitals")]
"""A footprint under the name that it has in JSON, where it is called `vitals`."""


class Observation(Value):
    """Everything that was observed in one drill, without the records."""

    started: Seconds
    """When the drill began."""
    ended: Seconds
    """When the observation stopped."""
    fault_at: Seconds | None = None
    """When the first fault was injected; None when none was."""
    strikes: tuple[Strike, ...] = ()
    """All faults that were injected, in order."""
    snapshots: tuple[Snapshot, ...] = ()
    """Snapshots in order of time: at least one before the fault and one after it, and one per poll between fault and end."""
    events: tuple[Event, ...] = ()
    """What Kubernetes and the tasks reported. `build_timeline` adds what the snapshots show."""
    load: LoadSeen | None = None
    """None when the load generator could not be asked at the end."""
    outliving_streams: int = 0
    """Streams that were alive both at this fault and at the next one of the series. Their records belong to the next fault."""
    clock_offset_s: Seconds = 0.0
    """The load's clock minus the observer's."""
    aborted: str = ""
    """Why the drill was stopped before its end; empty when it was not."""
    versions: Versions = Versions()
    footprint: Footprint = Footprint()

    @property
    def healed_at(self) -> float | None:
        """When the last fault was over; None when none was injected."""
        return max((strike.healed_at for strike in self.strikes), default=self.fault_at)

    @property
    def before(self) -> Snapshot | None:
        """The last snapshot before the fault."""
        earlier = [s for s in self.snapshots if self.fault_at is None or s.t <= self.fault_at]
        return earlier[-1] if earlier else None

    @property
    def later(self) -> tuple[Snapshot, ...]:
        """The snapshots after the fault; none without a fault."""
        return () if self.fault_at is None else tuple(s for s in self.snapshots if s.t > self.fault_at)
