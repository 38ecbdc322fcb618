"""What a drill did to a cluster: one strike for each of its faults, as the journal and the evidence have them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drills.value import Seconds, Value


class Target(Value):
    """The one thing that is struck, with everything that tells it from a later one of the same name."""

    kind: Literal["pod", "process", "node", "load", "lease"] = "pod"
    name: str
    """Name of the pod, of the node, of the load, or of the process in words; namespace and name of the lease."""
    uid: str
    """UID of the pod, the node or the lease; id and start time of the process; name of the load."""
    node: str = ""
    """Name of the node that it is on."""
    pod: str = ""
    """Name of the pod that the process runs in."""
    container: str = ""
    """Id of the container that the process runs in."""
    mark: str = ""
    """Name by which the act knows again what it has added: a container of the pod, the holder of the lease."""
    pods: tuple[str, ...] = ()
    """UIDs of the pods that go with it: of the process' pod, or of those that are evicted from the node."""

    def __str__(self) -> str:
        return f"{self.name} in {self.pod}" if self.kind == "process" else self.name


class Strike(Value):
    """One fault that was done, or is about to be: it is written down before, after, and when it is undone."""

    act: str = "delete-pod"
    """Kind of the fault."""
    target: Target
    at: Seconds
    """When it was done; while `done` is false, when it was planned."""
    done: bool = False
    ended: Seconds | None = None
    """When a fault that lasts ends; None for one that is over at once."""
    told: str = ""
    """What the act itself saw: "gone", "stopped", "cut", "multiplied", "held"; empty when only snapshots can tell."""
    undo: str = ""
    """What must be undone, in words; empty when nothing must."""
    undone_at: Seconds | None = None
    answered: dict[str, int] = Field(default_factory=dict)
    """Requests that the engines of new workers finished during a surge, by pod; without engines that could not be asked."""

    @property
    def healed_at(self) -> float:
        """When it was over. From then on recovery is counted."""
        return self.at if self.ended is None else self.ended

    @property
    def left(self) -> bool:
        """Whether something of it must still be undone."""
        return bool(self.undo) and self.undone_at is None
