"""Terraform's stream of events, turned into a summary of the plan and into progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tasks.terraform.errors import Event

_REAL_ACTIONS = ("create", "update", "delete", "replace")

_PROGRESS_EVENTS = ("version", "apply_start", "apply_progress", "apply_complete", "apply_errored", "log")
"""Types of events after which progress is reported."""


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change of one resource."""

    address: str
    action: str
    """One of create, update, delete and replace."""

    @property
    def destructive(self) -> bool:
        """Whether the resource that exists is destroyed."""
        return self.action in ("delete", "replace")

    @property
    def type(self) -> str:
        """Type of the resource, such as aws_vpc."""
        return self.address.partition(".")[0]


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A plan without its values: resources to create, change and destroy."""

    changes: tuple[Change, ...]
    digest: str = ""
    """Hash of all that the plan changes, with its values: another plan has another one. Empty: not known, or nothing is changed."""

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> PlanSummary:
        """Make the summary from the events of `terraform plan -json`."""
        planned = (event["change"] for event in events if event.get("type") == "planned_change")
        return cls(tuple(Change(change["resource"]["addr"], change["action"]) for change in planned if change["action"] in _REAL_ACTIONS))

    @property
    def add(self) -> int:
        """Number of resources to create, replaced ones included."""
        return sum(change.action in ("create", "replace") for change in self.changes)

    @property
    def change(self) -> int:
        """Number of resources to change in place."""
        return sum(change.action == "update" for change in self.changes)

    @property
    def destroy(self) -> int:
        """Number of resources to destroy, replaced ones included."""
        return sum(change.action in ("delete", "replace") for change in self.changes)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to change."""
        return not self.changes

    def beyond(self, approved: PlanSummary) -> tuple[str, ...]:
        """Addresses in this plan that are not in `approved`, or were only to be changed there and would now be destroyed."""
        known = {change.address: change for change in approved.changes}
        return tuple(
            change.address
            for change in self.changes
            if change.address not in known or (change.destructive and known[change.address].action == "update")
        )

    def __str__(self) -> str:
        return f"{self.add} to add, {self.change} to change, {self.destroy} to destroy"


@dataclass(frozen=True, slots=True)
class TerraformProgress:
    """How far a terraform run is."""

    done: int
    planned: int
    """Number of all operations; a replaced resource counts as two. 0: not known yet."""
    current: tuple[str, ...]
    """Resources in work, the longest-running first."""
    elapsed_s: float
    note: str = ""
    """Terraform's message about the last event."""

    @property
    def percent(self) -> float:
        """Share of the operations that are done, from 0 to 100."""
        return 100 * min(1, self.done / self.planned) if self.planned else 0

    def __str__(self) -> str:
        doing = f", now {', '.join(self.current[:3])}" + (f" and {len(self.current) - 3} more" if len(self.current) > 3 else "")
        return f"{self.done} of {self.planned} done after {self.elapsed_s:.0f} s" + (doing if self.current else "")


OnProgress = Callable[[TerraformProgress], None]


def ignore(_: TerraformProgress) -> None:
    """Do nothing: for callers that need no progress."""


@dataclass(slots=True)
class Tracker:
    """Counts the events of one run and calls `on_progress` at every step."""

    on_progress: OnProgress = ignore
    events: list[Event] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _planned: int = 0
    _done: int = 0
    _current: dict[str, None] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Count the event and, if it is a step, report the progress."""
        self.events.append(event)
        step = {"planned_change": self._plan, "apply_start": self._begin, "apply_complete": self._end, "apply_errored": self._end}.get(
            event["type"]
        )
        if step is not None:
            step(event)
        if event["type"] in _PROGRESS_EVENTS:
            # No note when an operation begins: `current` shows it, and the log would only be longer.
            self.on_progress(self.progress("" if event["type"] == "apply_start" else str(event.get("@message", ""))))

    def progress(self, note: str = "") -> TerraformProgress:
        """Return the progress up to now."""
        return TerraformProgress(self._done, self._planned, tuple(self._current), time.monotonic() - self._started, note)

    def _plan(self, event: Event) -> None:
        self._planned += {"replace": 2}.get(event["change"]["action"], int(event["change"]["action"] in _REAL_ACTIONS))

    def _begin(self, event: Event) -> None:
        if event["hook"]["action"] in _REAL_ACTIONS:
            self._current[event["hook"]["resource"]["addr"]] = None

    def _end(self, event: Event) -> None:
        if event["hook"]["action"] in _REAL_ACTIONS:
            self._current.pop(event["hook"]["resource"]["addr"], None)
            self._done += event["type"] == "apply_complete"
