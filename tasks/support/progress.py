"""Progress artifacts: how far a long task is, in the Prefect UI. Outside a run nothing is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

from drills.runner.waiting import Pending

EVERY_S = 1.0
"""Seconds between two updates: each is a request to the server."""
LONGEST = 100
"""Default for the largest number of characters of a description."""


class Progress:
    """One artifact, created with the first message and updated at most once a second."""

    def __init__(self, key: str, longest: int = LONGEST) -> None:
        self._key, self._longest = key, longest
        self._artifact: UUID | None = None
        self._shown: tuple[float, str] = (0.0, "")
        self._last = float("-inf")
        self._outside_run = TaskRunContext.get() is None and FlowRunContext.get() is None

    def show(self, percent: float | None, text: str) -> None:
        """Show this in the artifact, unless it was updated less than a second ago. `percent` None: unchanged."""
        now = (self._shown[0] if percent is None else max(0.0, min(100.0, percent)), " ".join(text.split())[: self._longest])
        if self._outside_run or now == self._shown or (now[0] < 100 and time.monotonic() - self._last < EVERY_S):
            return
        self._shown, self._last = now, time.monotonic()
        if self._artifact is None:
            made = create_progress_artifact(progress=now[0], key=self._key, description=now[1])
            assert isinstance(made, UUID), "flows are synchronous"
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, progress=now[0], description=now[1])

    def show_pending(self, pending: Pending) -> None:
        """Show what a wait observed; to be passed as `Until.on_pending`."""
        self.show(pending.percent, pending.seen)

    def checked(self, check: Callable[[], None]) -> Callable[[Pending], None]:
        """Return a function like `show_pending` that first calls `check`, which may end the wait by an error."""

        def on_pending(pending: Pending) -> None:
            check()
            self.show_pending(pending)

        return on_pending
