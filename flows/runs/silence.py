"""Flow runs that Prefect shows as running although their process and its worker are both gone, so that no hook ran."""

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
"""Seconds to wait for a heartbeat: more than two intervals. Some may have been missed while the server or the machine stood still."""
LOOK_EVERY_S = 5.0
SILENT = "No heartbeat: the run's process is gone, and so is the worker that would have reported it."


def end_if_silent(run_id: str, listen_s: float = LISTEN_S) -> None:
    """Mark the flow run as ended unless it still sends heartbeats. Otherwise the next run of its deployment would wait for ever."""
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            return
        if run.state is None or run.state.is_final():
            return
        if _sends_heartbeats(client, run.id, listen_s):
            get_run_logger().info("run %s is alive", run.name)
            return
        # Prefect allows no other end for a run that is being cancelled.
        end = Cancelled if run.state.is_cancelling() else Crashed
        client.set_flow_run_state(run.id, end(message=SILENT))
        get_run_logger().warning("run %s: %s", run.name, SILENT)


def _sends_heartbeats(client: SyncPrefectClient, run_id: UUID, listen_s: float) -> bool:
    """Whether the run sent a heartbeat or ended within `listen_s` seconds."""
    before, until = _last_heartbeat(client, run_id), time.monotonic() + listen_s
    while time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        state = client.read_flow_run(run_id).state
        if _last_heartbeat(client, run_id) != before or state is None or state.is_final():
            return True
    return False


def _last_heartbeat(client: SyncPrefectClient, run_id: UUID) -> UUID | None:
    # Events are compared by id, not by time: the times come from the clock of the run's machine.
    now, day = datetime.now(UTC), timedelta(days=1)
    wanted = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": now - day, "until": now + day}),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    found = client.read_events(wanted, limit=1).events
    return found[0].id if found else None
