"""Progress artifacts: how far a long task is, in the Prefect UI. Outside a run they say nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

from tasks.support.waiting import Pending

EVERY_S = 1.0
"""Between two updates: each is a request to the server."""
LONGEST = 100
"""Characters of a description."""


class Progress:
    """One artifact, made with the first word and changed at most once a second."""

    def __init__(self, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._key, self._clock = key, clock
        self._artifact: UUID | None = None
        self._said: tuple[float, str] = (0.0, "")
        self._last = float("-inf")
        self._silent = TaskRunContext.get() is None and FlowRunContext.get() is None

    def show(self, percent: float | None, text: str) -> None:
        """The artifact shows this, unless it did so a moment ago. None: as far as before."""
        now = (self._said[0] if percent is None else max(0.0, min(100.0, percent)), " ".join(text.split())[:LONGEST])
        if self._silent or now == self._said or (now[0] < 100 and self._clock() - self._last < EVERY_S):
            return
        self._said, self._last = now, self._clock()
        if self._artifact is None:
            made = create_progress_artifact(progress=now[0], key=self._key, description=now[1])
            assert isinstance(made, UUID), "flows are synchronous"
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, progress=now[0], description=now[1])

    def show_pending(self, seen: Pending) -> None:
        """For `Until.on_pending`."""
        self.show(seen.percent, seen.seen)

    def checked(self, check: Callable[[], None]) -> Callable[[Pending], None]:
        """`look`, after a check that may end the wait by its error."""

        def on_pending(seen: Pending) -> None:
            check()
            self.show_pending(seen)

        return on_pending


class Part(Progress):
    """What one fault of a series adds to the progress of the whole, from one share of its time to another."""

    def __init__(self, whole: Progress, number: int, of: int, since: float, until: float) -> None:
        self._whole, self._words = whole, f"fault {number} of {of}"
        self._since, self._until = (100 * (number - 1 + share) / of for share in (since, until))

    def show(self, percent: float | None, text: str) -> None:
        """The whole shows this."""
        share = None if percent is None else self._since + (self._until - self._since) * percent / 100
        self._whole.show(share, f"{self._words}: {text}")
