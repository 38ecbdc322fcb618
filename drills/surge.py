"""A surge as a drill: the load of a service that scales is multiplied for a while. The service must grow with it and shrink again, without
losing a request.

The surge is the first fault, and lasts until the service has grown and answered for some time. Another fault may follow while a worker
starts. The service has recovered when its workers and nodes are as before.
"""

from __future__ import annotations

import math

from drills.definition import NO_FAULT, Drill, FaultOfDrill, Load, Slos, SteadyState, Timing
from drills.faults import Fault, Surge, When

SHORT_PER_S = 2.0
"""Short requests per second of a base load that is made for the service."""
SHORT_S = 0.4
"""Seconds that a short request of four tokens takes at a 7B model's pace."""
BEYOND = 7 / 6
"""Requests under way in a surge, as a multiple of those that the workers are sized for: clearly more, and less than the 4/3 that the slots
of their engines take, so that no request waits for the minutes that a new worker needs."""


def size_load(workers: int, ongoing_requests: float, factor: int) -> Load:
    """Return a base load that so many workers carry, and that needs more of them when it is multiplied by `factor`.

    Serve wants as many replicas as there are requests under way, divided by `ongoing_requests`, rounded up. Under way are the streams, half
    a stream more because the load starts them one by one, and each short request for the time that it takes.
    """
    under_way = BEYOND * workers * ongoing_requests / factor
    return Load(short_per_s=SHORT_PER_S, streams=max(1, math.ceil(under_way - 0.5 - SHORT_PER_S * SHORT_S)))


def surge_drill(
    surge: Surge, load: Load, *, workers: int, nodes: int, nodes_follow: bool, shrink_within_s: float, fault: FaultOfDrill = NO_FAULT
) -> Drill:
    """Return the drill of that surge.

    Args:
        load: The base load.
        workers: Number of workers of the service at rest.
        nodes: Number of their nodes.
        nodes_follow: Whether nodes come and go with the workers.
        shrink_within_s: Seconds after the surge within which workers and nodes must be as before.
        fault: Name of the drill whose fault is done while a new worker starts.
    """
    faults: tuple[Fault, ...] = (surge,)
    title = f"{surge.factor} times the load"
    if fault != NO_FAULT:
        other = Drill.named(fault)
        when = When(seen="worker-starting", within_s=surge.grow_within_s)
        faults, title = (surge, other.fault.model_copy(update={"when": when})), f"{title}, {other.title.lower()} meanwhile"
    return Drill(
        name="surge",
        title=title[:80],
        description="The load is multiplied for a while. The service must grow with it and shrink again, and lose no request.",
        faults=faults,
        steady_state=SteadyState(
            strict=False,
            min_endpoints=workers,
            min_replicas=workers,
            min_nodes=nodes,
            most_workers=workers,
            most_nodes=nodes if nodes_follow else None,
        ),
        timing=Timing(after_s=5, observe_timeout_s=shrink_within_s),
        load=load,
        slos=Slos(max_recovery_s=shrink_within_s),
    )
