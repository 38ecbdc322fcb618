"""The load: a Job in the cluster that records every request, and is read through the API server's pod proxy."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from blocks.errors import Permanent, Transient
from blocks.parameters import Service
from drills.definition import Drill
from drills.definition import Load as Traffic
from drills.observed import LoadSeen
from serving.records import Record, read_lines
from tasks.drill.journal import NAMESPACE, Journal, remove_load
from tasks.kubernetes import manifests, ownership, pod_problems
from tasks.kubernetes.api import Api, NotFound, Object
from tasks.service import api_key
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.support.waiting import Pending, Until

PORT = 8080
WARM_UP_S = 120
"""In which the load must have got its first right answers."""
SLACK_S = 180
"""Between phases: looks, retries, a slow machine. Load that ends too early makes the drill void."""
LINGER_S = 600
"""For which the records can still be read after the end."""
RUNNING_WITHIN_S = 600.0
"""The image may have to come to the load's node first."""
ASK_S = 10.0
PIECE = 2**20
"""Bytes. Less than this is all that there was: the load gives four times as much at once. It writes on meanwhile, and who reads until
nothing comes may read for ever."""
SILENT_FOR_S = 60.0
"""The API server, or the load's node, may be away for so long."""
DRAIN_S = 60.0
"""For the load's last requests, beyond the client's patience and what its longest stream took."""

State = Literal["warming", "running", "draining", "done"]


class LoadFailed(Permanent):
    """The load ended before its time."""


class LoadStatus(BaseModel, frozen=True):
    """What the load says of itself, on its own clock."""

    now: float
    state: State
    sent: int
    started: float | None
    stopped: float | None
    node: str = ""


class Load:
    """One load Job."""

    def __init__(self, api: Api, name: str) -> None:
        self._api, self.name = api, name

    def start(self, service: Service, image: str, load: Traffic, lasts_s: float) -> bool:
        """The Job is there; False: it was already. It sends for `lasts_s` seconds at most, and some more for what comes between."""
        if self._api.find(self._job):
            return False
        (job,) = manifests.load("load-job", job_values(self.name, service, image, load, lasts_s))
        self._api.call("POST", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", body=job)
        return True

    def pod(self) -> Object | None:
        """The Job's pod, the newest if it had several; None when there is none."""
        found = self._api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=f"batch.kubernetes.io/job-name={self.name}")
        return max(found, key=lambda p: p["metadata"]["creationTimestamp"], default=None)

    def status(self) -> LoadStatus:
        """What it says now.

        Raises:
            Unavailable: it does not answer now. LoadFailed: it never will.
        """
        return LoadStatus.model_validate_json(self._ask("GET", "/status"))

    def stop(self) -> None:
        """No further request is sent; live ones go on to their end."""
        self._ask("POST", "/stop")

    def read_on(self, file: Path) -> int:
        """The records that were written until now are appended to the file, whole lines only; returns how many bytes came.

        The file's length is the place to go on from, so it may be called again after any failure.
        """
        total = 0
        while True:
            offset = file.stat().st_size if file.exists() else 0
            data = self._ask("GET", f"/records?offset={offset}")
            with file.open("ab") as out:
                out.write(data)
            total += len(data)
            if len(data) < PIECE:
                return total

    def look(self) -> bool | Pending:
        """Whether it sends; for Until.

        Raises:
            LoadFailed: it ended, or has sent all that it was to send.
        """
        pod = self.pod()
        if pod is None:
            return Pending("its pod is not there yet", 10)
        if trouble := pod_problems.trouble(pod):
            self._failed(pod)
            return Pending(trouble, 40)
        state = self.status().state
        if state in ("draining", "done"):
            raise LoadFailed(f"the load {self.name} has sent for its whole time already; the run that began it was away for too long")
        return True if state == "running" else Pending("warming up: waiting for the first right answers", 80)

    @property
    def _job(self) -> str:
        return f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{self.name}"

    def _ask(self, method: str, path: str) -> bytes:
        pod = self.pod()
        if pod is None:
            raise LoadFailed(f"the load {self.name} is gone: its Job or pod was deleted")
        self._failed(pod)
        return self._api.proxy(method, NAMESPACE, "pods", pod["metadata"]["name"], PORT, path, ASK_S)

    def _failed(self, pod: Object) -> None:
        phase = pod.get("status", {}).get("phase")
        if phase in ("Failed", "Succeeded"):
            raise LoadFailed(f"the load {self.name} ended ({phase}) before it was asked to; it said last: {self._last_words(pod)}")

    def _last_words(self, pod: Object) -> str:
        try:
            where = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/log"
            status, data = self._api.raw("GET", where, query={"tailLines": 5})
        except Transient:
            return "nothing that can be read"
        return data.decode(errors="replace").strip()[-500:] if status == 200 else "nothing that can be read"


def duration(drill: Drill, faults: int = 1) -> float:
    """Seconds of load that a drill with so many faults takes at most, without what comes between its phases."""
    one = drill.timing.before_s + drill.timing.observe_timeout_s + drill.timing.after_s
    return faults * one + (faults - 1) * SLACK_S


def job_values(name: str, service: Service, image: str, load: Traffic, lasts_s: float) -> dict[str, object]:
    """What manifests/load-job.yaml is filled with, for a load that is needed for so many seconds."""
    longest = int(lasts_s) + SLACK_S
    flags: dict[str, object] = {
        "url": service.url,
        "short-per-s": load.short_per_s,
        "short-tokens": load.short_tokens,
        "streams": load.streams,
        "stream-tokens": load.stream_tokens,
        "patience": load.patience_s,
        "warm-up": WARM_UP_S,
        "max-duration": longest,
        "linger": LINGER_S,
    }
    arguments = [part for flag, value in flags.items() for part in (f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value))]
    return {
        "namespace": NAMESPACE,
        "load_name": name,
        "service": ownership.key(service),
        "image": image,
        "load_args": arguments,
        "load_deadline_s": WARM_UP_S + longest + LINGER_S + 60,
    }


def records_in(file: Path, offset: int = 0) -> Iterator[Record]:
    """The records read so far, from that byte on. One after the other: those of a long series would fill the memory."""
    if file.exists():
        with file.open("rb") as data:
            data.seek(offset)
            yield from read_lines(io.TextIOWrapper(data, encoding="utf-8"))


class Unread:
    """The records of a file that grows, each given once."""

    def __init__(self, file: Path, offset: int = 0) -> None:
        self._file, self._offset = file, offset

    def records(self) -> list[Record]:
        """The records that came since the last call, or since the offset."""
        found = list(records_in(self._file, self._offset))
        self._offset = self._file.stat().st_size if self._file.exists() else self._offset
        return found


def clock_offset(load: Load, tries: int = 5) -> float:
    """The load's clock minus ours, by the quickest of several answers: half its way there and back is the error."""
    best = (float("inf"), 0.0)
    for _ in range(tries):
        asked = time.time()
        status = load.status()
        took = time.time() - asked
        best = min(best, (took, status.now - asked - took / 2))
    return best[1]


def ended(load: Load, file: Path, patience_s: float, on_pending: Callable[[Pending], None]) -> tuple[LoadStatus, float]:
    """The load was stopped, no request of it is alive any more and all records are in the file; returns its last word, and its clock's
    offset.

    Raises:
        TimedOut: it does not answer, or its requests do not end. LoadFailed: it is gone.
    """

    def stop() -> float:
        offset = clock_offset(load)
        load.stop()
        load.read_on(file)
        return offset

    def probe() -> LoadStatus | Pending:
        status = load.status()
        load.read_on(file)
        return status if status.state == "done" else Pending(f"{status.state}: {status.sent} requests sent", 50)

    offset = Until(f"the load {load.name} to answer", stop, SILENT_FOR_S, 1.0, on_pending).wait()
    longest = max((r.end - r.sent for r in records_in(file)), default=0.0)
    within = DRAIN_S + patience_s + longest
    return Until("the load's last requests to end", probe, within, 1.0, on_pending).wait(), offset


def seen(status: LoadStatus) -> LoadSeen | None:
    """As drills takes it; None when it never sent anything."""
    if status.started is None or status.stopped is None:
        return None
    return LoadSeen(started=status.started, stopped=status.stopped, sent=status.sent, node=status.node)


@step("start load", deadline_s=900)
def start_load(site: Site, service: Service, journal: Journal, image: str, drill: Drill, faults: int = 1) -> str:
    """The load sends at its full rate, for as long as so many faults may take; returns the name of its node."""
    api, progress = site.api(), Progress("load")
    load = Load(api, journal.load_name)
    api_key.put(api, NAMESPACE, site.block.api_key)
    load.start(service, image, drill.load, duration(drill, faults))
    Until("the load to send", load.look, RUNNING_WITHIN_S, 1.0, progress.show_pending).wait()
    progress.show(100, f"{drill.load.short_per_s:g} requests/s and {drill.load.streams} live streams")
    return load.status().node


@step("stop load", deadline_s=60, retries=2)
def stop_load(site: Site, journal: Journal) -> None:
    """The load Job is gone, whatever it was doing."""
    try:
        remove_load(site.api(), journal.load_name)
    except NotFound:
        return
