"""The definition of a drill: its faults, the steady state that it starts from and returns to, the load, the timing and the SLOs.

A drill is one YAML file in catalogue/, and a new drill a new file there. A new kind of fault is also one class in drills/faults.py (its
fields, its proof and its words), one act in drills/runner/acts/, and a field of `Snapshot` if its proof needs one. Nothing here
touches an outside system.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, model_validator

from drills.faults import GRACES, AnyFault, DeletePod, Fault, Kebab, Surge, listed
from drills.value import Value

CATALOGUE = Path(__file__).parent / "catalogue"

Repeat = Annotated[int, Field(ge=1, le=1000)]
"""Number of times that the fault of a drill is done."""
Graces = Literal["own", "in-turn"]
"""own: every fault has the grace of the drill. in-turn: every second fault has the other grace; the first has that of the drill."""


class UnknownDrill(ValueError):
    """The catalogue has no drill of that name; the message lists the drills."""


class SteadyState(Value):
    """The conditions that must hold before the fault, and again for the service to count as recovered. The flows set the three minima to
    the number of workers of the service."""

    strict: bool = True
    """Whether every worker must be ready and every deployment HEALTHY. Otherwise as many must be as before the fault: a worker without
    replicas is never ready (ray#51095), and an autoscaled deployment may be UPSCALING."""

    answered: bool = True
    """Whether the drill's own request must be answered. Off for a service that has no such request: then its load alone shows it."""

    min_endpoints: Annotated[int, Field(ge=1, le=1000)] = 2
    """Least number of ready pods behind the serve service. Two, because losing the only one is an outage."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 2
    """Least number of running replicas of every deployment: of the engines and of the APIs in front of them. Two, for the same reason."""

    min_nodes: Annotated[int, Field(ge=0, le=1000)] = 2
    """Least number of nodes that the replicas of every deployment are spread over. Two, because replicas on one node are not redundant."""

    most_workers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest number of worker pods, ready or not; None: any number. A service that scales is at rest when those of an earlier load are
    gone."""

    most_nodes: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest number of the model's nodes, those that are being launched or ended included; None: any number, and they are not observed."""

    require_gcs_storage: bool = False
    """Whether GCS must keep its state in Redis for the drill to start. Off, so that a drill can show what happens without it."""

    hold_s: Annotated[float, Field(ge=0, le=120)] = 5
    """Seconds that the steady state must hold without a break to count as recovered. Five is longer than the gap between two probe
    periods, so that an endpoint that flickers does not count."""

    @property
    def within_s(self) -> float:
        """Seconds to wait for it, in addition to the time that it must hold. A service that was just deployed takes a few seconds; workers
        and nodes of an earlier load take as long to go as those of a surge."""
        return 120.0 if self.most_workers is None else 900.0


class Timing(Value):
    """Durations of the phases of a drill, in seconds."""

    before_s: Annotated[float, Field(ge=5, le=1800)] = 20
    """Seconds of load before the fault. 20 s at the default load are 200 requests and four times the life of a stream: enough for a p99."""

    after_s: Annotated[float, Field(ge=5, le=1800)] = 30
    """Seconds of load after recovery. 30 s, because losses were seen to begin 9 s after the fault, and late ones must have time to show."""

    observe_timeout_s: Annotated[float, Field(ge=30, le=3600)] = 300
    """Seconds to wait for recovery; at least as long as it may take (max_recovery_s). A head takes 9 to 14 s; a worker that loads its
    model again takes minutes."""

    poll_s: Annotated[float, Field(ge=0.2, le=30)] = 1
    """Seconds between two snapshots of the cluster; recovery_s is no more exact than this."""


class Load(Value):
    """The load: an open loop, so a service that stalls does not slow the load down."""

    short_per_s: Annotated[float, Field(gt=0, le=1000)] = 10
    """Short requests per second. Two shared cores carry ten with room to spare, and 1 in 100 is visible within 10 s."""

    short_tokens: Annotated[int, Field(ge=1, le=1024)] = 4
    """Tokens of a short answer. Few, so that the service makes up most of its latency: at a 7B model's pace of ten steps per second the
    model takes 0.3 s of it, three steps after the first token."""

    streams: Annotated[int, Field(ge=0, le=2000)] = 8
    """Token streams alive at any moment. With eight, every replica always has some in mid-answer when the fault is done."""

    stream_tokens: Annotated[int, Field(ge=2, le=4096)] = 50
    """Tokens of a stream. 50 tokens last about 5 s at a 7B model's speed on one accelerator."""

    patience_s: Annotated[float, Field(ge=1, le=600)] = 10
    """Seconds that the client waits for the next byte before the request counts as hung. People reload a page after ten seconds."""


class Slos(Value):
    """What the users of the service are promised during the drill. The default is zero where zero was measured."""

    max_failed_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Short requests that may be refused, cut, hung or answered wrongly, in all phases."""

    max_lost_streams: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Streams that may be cut, hung, refused or answered wrongly, in all phases."""

    max_wrong_answers: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Whole answers, short or streamed, that may differ from a healthy server's. They also count as failed requests or lost streams."""

    p99_steady_ms: Annotated[float, Field(gt=0, le=600_000)] = 2000
    """99th percentile of short requests before the fault and after recovery. The model takes 0.3 s, and a request waits for the step that
    is under way; 2 s allow for a busy machine. A slower service *before* the fault puts the latencies in doubt, as the fault did not
    cause it."""

    p99_during_ms: Annotated[float, Field(gt=0, le=600_000)] = 5000
    """99th percentile of short requests between fault and recovery. With a new head that shares two cores with the workers, 0.7 to 1.9 s
    were measured with a model that answers at once; a 7B model's 0.3 s are added to that."""

    max_token_gap_s: Annotated[float, Field(gt=0, le=600)] = 5
    """Longest silence of one stream, before its first token or between two. Five seconds look like a crash to a reader."""

    max_recovery_s: Annotated[float, Field(gt=0, le=3600)] = 120
    """Seconds from the end of the last fault until the steady state holds again, redundancy included. 9 to 14 s were measured on two busy
    cores. Two minutes allow for a much slower machine; compare a series with an earlier one to see whether it grows."""

    losses_end_within_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Seconds after a fault, or after its end where it lasts, after which nothing more may be lost. None: not promised. For faults that
    cannot be survived without a loss."""

    max_workers_touched: Annotated[int, Field(ge=0, le=1000)] = 0
    """Workers that may be replaced, restarted or get a new replica. Zero, as a worker that loads its model again is away for minutes."""


class Drill(Value):
    """One complete drill: everything that is needed to run it and to judge it."""

    name: Kebab
    """Name of the drill in the catalogue and in evidence."""

    title: Annotated[str, Field(min_length=3, max_length=80)]
    """What happens, as a short clause: "Head pod deleted"."""

    description: Annotated[str, Field(min_length=10, max_length=2000)]
    """What is broken, what must hold, and what a failure means."""

    faults: Annotated[tuple[AnyFault, ...], Field(min_length=1, max_length=5)] = (DeletePod(),)
    """What is broken on purpose, in order. A file may say `fault` where there is only one."""

    steady_state: SteadyState = SteadyState()
    """What must hold before the fault, and again afterwards."""

    timing: Timing = Timing()
    """Durations of the phases."""

    load: Load = Load()
    """The load during the drill."""

    slos: Slos = Slos()
    """The promises that are judged."""

    @model_validator(mode="before")
    @classmethod
    def _one_fault(cls, found: Any) -> Any:
        return listed(found)

    @model_validator(mode="after")
    def _moments(self) -> Self:
        if self.faults[0].when is not None:
            raise ValueError("the first fault is done in the steady state: it has no `when`")
        if any(fault.when is None for fault in self.faults[1:]):
            raise ValueError("every fault after the first needs a `when`")
        if any(isinstance(fault, Surge) for fault in self.faults[1:]):
            raise ValueError("a surge is the first fault: nothing would end a later one")
        return self

    @property
    def fault(self) -> Fault:
        """The first of its faults."""
        return self.faults[0]

    @property
    def surge(self) -> Surge | None:
        """Its first fault where that is a surge, after which the service must grow and shrink."""
        return self.faults[0] if isinstance(self.faults[0], Surge) else None

    @property
    def graces(self) -> Mapping[str, str]:
        """The words for each grace; empty when none of its faults has a grace period."""
        return GRACES if any(fault.other_grace() != fault for fault in self.faults) else {}

    def describe_faults(self) -> str:
        """Return all faults in words."""
        return "; then ".join(fault.describe() + (f" ({fault.when})" if fault.when else "") for fault in self.faults)

    @classmethod
    def named(cls, name: str, *, timing: Timing | None = None, load: Load | None = None, slos: Slos | None = None) -> Self:
        """Return the drill of that name from the catalogue, with the given parts in place of its own.

        Raises:
            UnknownDrill: the catalogue has no such drill; the message lists the drills.
        """
        path = CATALOGUE / f"{name}.yaml"
        if name not in catalogue():
            raise UnknownDrill(f"no drill is named {name!r}; the catalogue has: {', '.join(catalogue())}")
        given = {"timing": timing, "load": load, "slos": slos}
        drill = cls.from_yaml(path.read_text(encoding="utf-8"))
        return drill.model_copy(update={key: value for key, value in given.items() if value is not None})

    def other_grace(self) -> Self:
        """Return the same drill with the other grace; the drill itself when none of its faults has a grace period.

        Name, title and description are those of the drill in the catalogue that has this fault, if there is one; so are the promises,
        unless others were given.
        """
        faults = tuple(fault.other_grace() for fault in self.faults)
        if faults == self.faults:
            return self
        named = next((drill for drill in map(type(self).named, catalogue()) if drill.faults == faults), self)
        own = self.name in catalogue() and self.slos == type(self).named(self.name).slos
        words = {"name": named.name, "title": named.title, "description": named.description}
        return self.model_copy(update={**words, "faults": faults, "slos": named.slos if own else self.slos})

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Return the drill that a file of the catalogue describes.

        Raises:
            pydantic.ValidationError: a field is unknown, missing or out of bounds.
        """
        return cls.model_validate(yaml.safe_load(text))


class Series(Value):
    """The repetitions of a drill's fault, one after the other under one load."""

    repeat: Repeat = 1
    graces: Graces = "own"
    stop_at_first_loss: bool = False
    """Whether the series ends once a request was lost."""

    def drill(self, drill: Drill, number: int) -> Drill:
        """Return the drill for the fault of that number; the first is 1."""
        return drill.other_grace() if self.graces == "in-turn" and number % 2 == 0 else drill


@cache
def catalogue() -> tuple[str, ...]:
    """Return the names of all drills, sorted."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob("*.yaml")))


def _with_one_fault() -> list[str]:
    """Return what a surge may do: no fault, or that of a drill that has only one."""
    return [NO_FAULT, *(name for name in catalogue() if len(Drill.named(name).faults) == 1)]


def _done_by_a_drill(name: str) -> str:
    if name not in _with_one_fault():
        raise ValueError(f"no drill with one fault is named {name!r}; there are: {', '.join(_with_one_fault())}")
    return name


NO_FAULT = "none"
FaultOfDrill = Annotated[str, AfterValidator(_done_by_a_drill), Field(json_schema_extra={"enum": _with_one_fault()})]
"""Name of the drill in the catalogue whose fault is done; "none": no fault is done."""
