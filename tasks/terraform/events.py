"""Terraform's stream of events, turned into what people want to know: what it plans, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

_REAL_ACTIONS = ("create", "update", "delete", "replace")

_PROGRESS_EVENTS = ("version", "apply_start", "apply_progress", "apply_complete", "apply_errored", "log")
"""Events after which progress is told."""


@dataclass(frozen=True, slots=True)
class Change:
    """What Terraform plans for one resource."""

    address: str
    action: str
    """create, update, delete or replace."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A plan without its values: what would be made, changed and destroyed."""

    changes: tuple[Change, ...]

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> PlanSummary:
        """The plan that a `terraform plan -json` told."""
        planned = (event["change"] for event in events if event.get("type") == "planned_change")
        return cls(tuple(Change(change["resource"]["addr"], change["action"]) for change in planned if change["action"] in _REAL_ACTIONS))

    @property
    def add(self) -> int:
        """How many resources would be created, replaced ones included."""
        return sum(change.action in ("create", "replace") for change in self.changes)

    @property
    def change(self) -> int:
        """How many would be changed in place."""
        return sum(change.action == "update" for change in self.changes)

    @property
    def destroy(self) -> int:
        """How many would be destroyed, replaced ones included."""
        return sum(change.action in ("delete", "replace") for change in self.changes)

    @property
    def empty(self) -> bool:
        """Whether the world is already as the configuration says."""
        return not self.changes

    def beyond(self, approved: PlanSummary) -> tuple[str, ...]:
        """Addresses that this plan touches and `approved` did not."""
        known = {change.address for change in approved.changes}
        return tuple(change.address for change in self.changes if change.address not in known)

    def __str__(self) -> str:
        return f"{self.add} to add, {self.change} to change, {self.destroy} to destroy"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run of Terraform is."""

    done: int
    planned: int
    """Operations in all; a replaced resource is two. 0 until known."""
    current: tuple[str, ...]
    """Resources being worked on, the longest-running first."""
    elapsed_s: float
    note: str = ""
    """What happened last, in Terraform's words."""

    @property
    def percent(self) -> float:
        """From 0 to 100."""
        return 100 * min(1, self.done / self.planned) if self.planned else 0

    def __str__(self) -> str:
        doing = f", now {', '.join(self.current[:3])}" + (f" and {len(self.current) - 3} more" if len(self.current) > 3 else "")
        return f"{self.done} of {self.planned} done after {self.elapsed_s:.0f} s" + (doing if self.current else "")


OnProgress = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """For callers who want no progress."""


@dataclass(slots=True)
class Tracker:
    """Counts events of one run and tells every step to `on_progress`."""

    on_progress: OnProgress = ignore
    events: list[Event] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _planned: int = 0
    _done: int = 0
    _current: dict[str, None] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """The event is counted and, when it is a step, told."""
        self.events.append(event)
        step = {"planned_change": self._plan, "apply_start": self._begin, "apply_complete": self._end, "apply_errored": self._end}.get(
            event["type"]
        )
        if step is not None:
            step(event)
        if event["type"] in _PROGRESS_EVENTS:
            # That something begins is seen in `current`; a note of it would only double the log.
            self.on_progress(self.progress("" if event["type"] == "apply_start" else str(event.get("@message", ""))))

    def progress(self, note: str = "") -> Progress:
        """How far it is now."""
        return Progress(self._done, self._planned, tuple(self._current), time.monotonic() - self._started, note)

    def _plan(self, event: Event) -> None:
        self._planned += {"replace": 2}.get(event["change"]["action"], int(event["change"]["action"] in _REAL_ACTIONS))

    def _begin(self, event: Event) -> None:
        if event["hook"]["action"] in _REAL_ACTIONS:
            self._current[event["hook"]["resource"]["addr"]] = None

    def _end(self, event: Event) -> None:
        if event["hook"]["action"] in _REAL_ACTIONS:
            self._current.pop(event["hook"]["resource"]["addr"], None)
            self._done += event["type"] == "apply_complete"
