"""Runs that show as going on though nobody works on them: their process and its worker are both gone, and no hook ran."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

LISTEN_S = 75.0
"""Two signs of life, and some. What asks for this may have missed some: the server was away, or the machine stood still."""
LOOK_EVERY_S = 5.0
SILENT = "No sign of life: the run's process is gone, and so is the worker that would have said so."


def end_if_silent(run_id: str, listen_s: float = LISTEN_S) -> None:
    """That flow run has ended, if only now, unless it still gives a sign of life. Else the next of its deployment waits for ever."""
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            return
        if run.state is None or run.state.is_final():
            return
        if _lives(client, run.id, listen_s):
            get_run_logger().info("run %s lives", run.name)
            return
        # Prefect lets a run that is being cancelled end in no other way.
        end = Cancelled if run.state.is_cancelling() else Crashed
        client.set_flow_run_state(run.id, end(message=SILENT))
        get_run_logger().warning("run %s: %s", run.name, SILENT)


def _lives(client: SyncPrefectClient, run_id: UUID, listen_s: float) -> bool:
    """Whether the run gave a sign of life, or ended, while it was listened to."""
    before, until = _last_sign(client, run_id), time.monotonic() + listen_s
    while time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        state = client.read_flow_run(run_id).state
        if _last_sign(client, run_id) != before or state is None or state.is_final():
            return True
    return False


def _last_sign(client: SyncPrefectClient, run_id: UUID) -> UUID | None:
    # The times are by the run's clock, which may be another machine's: so a sign is told by its id.
    now, day = datetime.now(UTC), timedelta(days=1)
    wanted = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": now - day, "until": now + day}),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    found = client.read_events(wanted, limit=1).events
    return found[0].id if found else None
