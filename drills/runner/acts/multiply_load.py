"""The drill's own load is multiplied, and is as it was when the surge is over; and the answers of the workers that came are counted.

Nothing has to be undone: the load ends with its drill, and by itself when the drill is dead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress

from blocks.errors import PipelineError
from drills.faults import Surge
from drills.kubernetes.api import Api
from drills.observed import Snapshot
from drills.runner import journal as journals
from drills.runner.acts.act import Act
from drills.runner.load_job import LoadFailed, LoadJob
from drills.strikes import Strike, Target
from drills.subject import Subject

METRICS_PORT = 8080
"""Port of the metrics of Ray's agent in every pod; KubeRay sets it."""
METRICS_S = 5.0
"""Seconds that one request for metrics may take."""
COUNTED_WITHIN_S = 30.0
"""Seconds by which a surge is longer until the engines of all new workers have answered: they report to Ray's agent every ten seconds."""
ENGINE = "ray_leeward_slots"
"""A metric that every engine has from its start."""
FINISHED = re.compile(r'^ray_leeward_requests_total\{[^}]*outcome="finished"[^}]*\} ([0-9.e+]+)', re.MULTILINE)


def find(api: Api, subject: Subject, fault: Surge, before: Snapshot | None) -> Strike:
    """Return the load of the drill that holds the lock as the target; before there is one, a load without a name."""
    journal = journals.read(api, subject)
    name = journal.load_name if journal else "its load"
    return Strike(act=fault.kind, target=Target(kind="load", name=name, uid=name), at=time.time())


def strike(api: Api, subject: Subject, fault: Surge, planned: Strike) -> Strike:
    """Multiply the load; again, it stays multiplied."""
    LoadJob(api, subject, planned.target.name).multiply(fault.factor)
    at = time.time()
    return planned.model_copy(update={"done": True, "at": at, "ended": at + fault.lasts_s, "told": fault.TOLD})


def end(api: Api, subject: Subject, surge: Strike) -> Strike:
    """Let the load send as planned, unless it is gone; returns the surge with its end."""
    with suppress(LoadFailed):
        LoadJob(api, subject, surge.target.name).multiply(1)
    at = time.time()
    return surge.model_copy(update={"ended": at, "undone_at": at})


def count_answered(api: Api, subject: Subject, pods: Iterable[str]) -> dict[str, int]:
    """Return how many requests the engine in each of these pods has finished. Pods without metrics of an engine are left out."""
    found = {}
    for pod in pods:
        try:
            text = api.proxy("GET", subject.namespace, "pods", pod, METRICS_PORT, "/metrics", METRICS_S).decode(errors="replace")
        except PipelineError:
            continue
        if ENGINE in text:
            found[pod] = round(sum(map(float, FINISHED.findall(text))))  # Ray has no metric for a counter that was never increased
    return found


ACT = Act(find, strike, needs=())
