"""The load: a Job in the cluster that records every request. Its records are read through the API server's pod proxy.

python3 -m drills.runner.load_job NAMESPACE SERVICE IMAGE SECONDS | kubectl create -f -     # a load without a drill
"""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from blocks.errors import Permanent, Transient
from drills.definition import Drill, Load
from drills.kubernetes import manifests, pod_problems
from drills.kubernetes.api import Api, Conflict, Object
from drills.load.run import State
from drills.load.template import Check
from drills.records import Kind, Record, read_lines
from drills.request import LEEWARD, Template
from drills.runner import load_file
from drills.runner.observer import Observer
from drills.runner.waiting import Pending, Until
from drills.subject import Subject
from drills.value import Value

PORT = 8080
WARM_UP_S = 120
"""Seconds within which the load must have received its first correct answers."""
SLACK_S = 180
"""Seconds of load for the time between phases: snapshots, retries, a slow machine. A load that ends too early makes the drill void."""
LEASE_S = 300.0
"""Seconds after which the load of a drill stops when its records are not read. A drill reads them every few seconds; one that died and
is continued within this time finds its load as it was."""
LINGER_S = 600
"""Seconds for which the records can still be read after the load has ended."""
RUNNING_WITHIN_S = 600.0
"""Seconds until the load must send; its node may have to pull the image first."""
ASK_S = 10.0
"""Seconds that one request to the load may take."""
PIECE = 2**20
"""Bytes. A shorter reply means that all records until now were read: the load sends up to four times as much at once. Reading until a
reply is empty might never end, because the load goes on writing."""
SILENT_FOR_S = 60.0
"""Seconds for which the API server or the node of the load may be unavailable."""
DRAIN_S = 60.0
"""Seconds for the last requests to end, in addition to the client's patience and the time of the longest stream."""


class LoadFailed(Permanent):
    """The load ended too early."""


class LoadStatus(BaseModel, frozen=True):
    """What the load reports of itself, on its own clock."""

    now: float
    state: State
    sent: int
    started: float | None
    stopped: float | None
    node: str = ""
    checks: dict[Kind, Check] = Field(default_factory=dict)
    """How answers are compared; empty until the load has learnt it."""


class Placement(Value):
    """Where in the cluster a load runs, and in which image."""

    image: str
    """Any image with Python from 3.10 on."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that it may run on."""
    avoid_nodes: tuple[str, ...] = ()
    """Names of nodes that it must not run on, because the drill strikes them. It also prefers nodes without a head."""
    pull_secrets: tuple[str, ...] = ()
    """Names of the Secrets with which the image is pulled."""


class LoadJob:
    """The Job of one load in the cluster."""

    def __init__(self, api: Api, subject: Subject, name: str) -> None:
        self._api, self._subject, self.name = api, subject, name

    def start(self, placement: Placement, load: Load, lasts_s: float, template: Template | None = None, lease_s: float = 0) -> bool:
        """Create the Job and its ConfigMap; returns False when the Job exists already. It sends for at most `lasts_s` seconds and SLACK_S
        more. `lease_s`: seconds after which it ends when its records are not read; 0: it does not."""
        job, program = job_objects(self._subject, self.name, placement, load, lasts_s, template, lease_s=lease_s)
        jobs = f"/apis/batch/v1/namespaces/{self._subject.home}/jobs"
        found = self._api.find(f"{jobs}/{self.name}")
        made = found or self._api.call("POST", jobs, body=job)
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": made["metadata"].get("uid", "")}
        program = {**program, "metadata": {**program["metadata"], "ownerReferences": [owner]}}
        with suppress(Conflict):  # an earlier try made it
            self._api.call("POST", f"/api/v1/namespaces/{self._subject.home}/configmaps", body=program)
        return found is None

    def pod(self) -> Object | None:
        """Return the newest pod of the Job; None when there is none."""
        found = self._api.items(f"/api/v1/namespaces/{self._subject.home}/pods", labelSelector=f"batch.kubernetes.io/job-name={self.name}")
        return max(found, key=lambda p: p["metadata"]["creationTimestamp"], default=None)

    def status(self) -> LoadStatus:
        """Ask the load for its status.

        Raises:
            Unavailable: it does not answer now.
            LoadFailed: it has ended or is gone.
        """
        return LoadStatus.model_validate_json(self._request("GET", "/status"))

    def multiply(self, factor: int) -> None:
        """Let it send that multiple of its planned rates from now on."""
        self._request("POST", f"/multiply?factor={factor}")

    def stop(self) -> None:
        """Stop sending; requests under way go on to their end."""
        self._request("POST", "/stop")

    def read_on(self, file: Path) -> int:
        """Append the records written since the last call to the file, whole lines only; returns the number of bytes.

        Reading goes on at the length of the file, so it may be called again after any failure.
        """
        total = 0
        while True:
            offset = file.stat().st_size if file.exists() else 0
            data = self._request("GET", f"/records?offset={offset}")
            with file.open("ab") as out:
                out.write(data)
            total += len(data)
            if len(data) < PIECE:
                return total

    def check_sending(self) -> bool | Pending:
        """Return True once the load sends at its full rate, Pending before; a probe for `Until`.

        Raises:
            LoadFailed: it has ended, or has sent for its whole time.
        """
        pod = self.pod()
        if pod is None:
            return Pending("its pod is not there yet", 10)
        if trouble := pod_problems.trouble(pod):
            self._check_not_ended(pod)
            return Pending(trouble, 40)
        state = self.status().state
        if state in ("draining", "done"):
            raise LoadFailed(f"the load {self.name} has sent for its whole time already; its run was interrupted for too long")
        return True if state == "running" else Pending("warming up: waiting for the first right answers", 80)

    def _request(self, method: str, path: str) -> bytes:
        pod = self.pod()
        if pod is None:
            raise LoadFailed(f"the load {self.name} is gone: its Job or pod was deleted")
        self._check_not_ended(pod)
        return self._api.proxy(method, self._subject.home, "pods", pod["metadata"]["name"], PORT, path, ASK_S)

    def _check_not_ended(self, pod: Object) -> None:
        phase = pod.get("status", {}).get("phase")
        if phase in ("Failed", "Succeeded"):
            raise LoadFailed(f"the load {self.name} ended ({phase}) before it was asked to; its log ends with: {self._log_tail(pod)}")

    def _log_tail(self, pod: Object) -> str:
        try:
            where = f"/api/v1/namespaces/{self._subject.home}/pods/{pod['metadata']['name']}/log"
            status, data = self._api.raw("GET", where, query={"tailLines": 5})
        except Transient:
            return "nothing that can be read"
        return data.decode(errors="replace").strip()[-500:] if status == 200 else "nothing that can be read"


def duration(drill: Drill, faults: int = 1) -> float:
    """Return the seconds of load that a drill with so many faults needs at most, without the time between its phases."""
    lasts_s = sum(fault.lasts_s for fault in drill.faults)
    one = drill.steady_state.within_s + drill.timing.before_s + lasts_s + drill.timing.observe_timeout_s + drill.timing.after_s
    return faults * one + (faults - 1) * SLACK_S


def head_image(observer: Observer) -> str:
    """Return the image of the service's head. It has a Python, and may be pulled in this cluster.

    Raises:
        LoadFailed: there is no head.
    """
    heads = observer.cluster_pods("head")
    if not heads:
        raise LoadFailed(f"{observer.subject} has no head pod, in whose image the load would run: deploy it first, or give another image")
    return str(heads[-1]["spec"]["containers"][0]["image"])


def job_objects(
    subject: Subject,
    name: str,
    placement: Placement,
    load: Load,
    lasts_s: float,
    template: Template | None = None,
    linger_s: int = LINGER_S,
    lease_s: float = 0,
) -> list[Object]:
    """Return the Job and the ConfigMap of a load that is needed for so many seconds; without a template, of our own service.

    The ConfigMap has no owner yet: `LoadJob.start` makes the Job its owner, so that it goes with the Job.
    """
    template, longest = template or Template.of(LEEWARD), int(lasts_s) + SLACK_S
    plan = {
        "url": subject.url,
        "template": template.for_load(),
        **template.fitted(load).model_dump(),
        "warm_up_s": WARM_UP_S,
        "max_duration_s": longest,
        "lease_s": lease_s,
        "linger_s": linger_s,
        "port": PORT,
    }
    env: list[dict[str, Any]] = [{"name": "LEEWARD_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    for variable, _, value in template.secret_headers():
        reference = {"name": value.secret, "key": value.key, "optional": value.optional}
        env.append({"name": variable, "valueFrom": {"secretKeyRef": reference}})
    # By name, which every node has; a field takes one value at a time.
    avoided = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in placement.avoid_nodes]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": avoided}]}}
    values = {
        "namespace": subject.home,
        "load_name": name,
        "service": subject.key,
        "image": placement.image,
        "node_selector": placement.node_selector,
        "node_affinity": required if avoided else {},
        "pull_secrets": [{"name": secret} for secret in placement.pull_secrets],
        "load_env": env,
        "load_plan": json.dumps(plan, indent=2),
        "load_file": base64.b64encode(load_file.make()).decode(),
        "load_deadline_s": WARM_UP_S + longest + linger_s + 60,
    }
    return manifests.load("load-job", values)


def records_in(file: Path, offset: int = 0) -> Iterator[Record]:
    """Yield the records read so far, from that byte on. They are not returned as a list: those of a long series would fill the memory."""
    if file.exists():
        with file.open("rb") as data, io.TextIOWrapper(data, encoding="utf-8") as text:
            data.seek(offset)
            yield from read_lines(text)


def clock_offset(load: LoadJob, tries: int = 5) -> float:
    """Return the load's clock minus this machine's, from the fastest of several answers: its error is half of the round trip."""
    best = (float("inf"), 0.0)
    for _ in range(tries):
        asked = time.time()
        status = load.status()
        took = time.time() - asked
        best = min(best, (took, status.now - asked - took / 2))
    return best[1]


def end_load(load: LoadJob, file: Path, patience_s: float, on_pending: Callable[[Pending], None]) -> tuple[LoadStatus, float]:
    """Stop the load, wait for its last request and read all records into the file; returns its last status and its clock offset.

    Raises:
        TimedOut: it does not answer, or its requests do not end.
        LoadFailed: it is gone.
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


def main(arguments: Sequence[str]) -> None:
    """Print the objects of a load named "load" for one of our own services, in the service's namespace."""
    namespace, name, image, seconds = arguments
    subject = Subject(namespace=namespace, name=name, home=namespace)
    made = job_objects(subject, "load", Placement(image=image), Load(), float(seconds), linger_s=60)
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))


if __name__ == "__main__":
    main(sys.argv[1:])
