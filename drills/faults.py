"""What each kind of fault does to a service: how two snapshots prove it, and the words for it.

A kind of fault is one value in `EFFECTS` here, and one in `ACTS` of drills/runner/faults.py under the same name, which does it. Steady
state, trust, verdict, time line, report, series and surge ask the effect; none of them knows what a fault changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from drills.observed import Snapshot

__all__ = ["EFFECTS", "Effect", "Grace", "effect_of"]

Grace = Literal["default", "forced"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a kind of fault changes, as two snapshots show it, and the words for it."""

    proof: str
    """Name of the proof, as evidence has it."""

    happened: Callable[[Snapshot, Snapshot], bool]
    """Whether the second snapshot proves that the fault took effect after the first. False where it does not show enough to tell.

    Once true it must stay true, also when the service has recovered: a pod has another UID, a container was restarted once more. Every
    snapshot up to the recovery is asked.
    """

    unproven: str
    """The clause that reasons give when nothing proves it: "the head pod has the same UID as before"."""

    target: Callable[[Snapshot], str] = lambda before: ""
    """Name of the object that is struck, from the last snapshot before the fault; empty when there is none."""

    graces: Mapping[Grace, str] = field(default_factory=dict)
    """The words for each grace; empty for a fault that has no grace period, for which `Fault.grace` means nothing."""

    needs_gcs_storage: bool = False
    """Whether workers survive the fault only with GCS fault tolerance. The reasons of a failed verdict then name it where it is off."""


def effect_of(kind: str) -> Effect:
    """Return the effect of that kind of fault. An unknown kind has one that is never proven."""
    unknown = Effect(proof="unknown", happened=lambda before, now: False, unproven=f"what a fault of the kind {kind} changes is not known")
    return EFFECTS.get(kind, unknown)


def _head_replaced(before: Snapshot, now: Snapshot) -> bool:
    return before.head is not None and (now.head is None or now.head.uid != before.head.uid)


EFFECTS: dict[str, Effect] = {
    "delete-head-pod": Effect(
        proof="head-pod-replaced",
        happened=_head_replaced,
        unproven="the head pod has the same UID as before",
        target=lambda before: before.head.pod if before.head else "",
        graces={"default": "the pod's own grace period", "forced": "grace period 0"},
        needs_gcs_storage=True,
    ),
}
"""All effects, by kind of fault."""
