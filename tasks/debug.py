"""The debug bundle: pods, events and logs for a person to look at, in files beside the evidence, without secrets."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from prefect import get_run_logger

from blocks.errors import PipelineError
from blocks.parameters import Service
from drills.kubernetes.api import Api, Object
from drills.redact import clean
from drills.runner import ray_objects
from drills.runner.watch import kubernetes_events
from drills.subject import HOME
from tasks.cluster import kuberay
from tasks.service import chat
from tasks.support.paths import TERRAFORM_RUNS
from tasks.support.site import Site
from tasks.support.step import step

LOG_LINES = 2000
TERRAFORM_LINES = 200
RAY_FOLDER = "/tmp/ray"
RAY_FILES = 40
"""Largest number of files from Serve, and of files from Ray: the newest of all sessions. A restarted container begins a new session."""
RAY_FILE_BYTES, RAY_POD_BYTES, RAY_BYTES = 512 << 10, 4 << 20, 32 << 20
"""Bytes kept from the end of one file, of one pod, and in all. Serve writes a line or two per request, so the first is some minutes of
load."""
RAY_WITHIN_S, RAY_POD_WITHIN_S = 60.0, 20.0
"""Seconds for all pods, and for one. Without the API server or the node there are no logs."""
_KINDS = {
    "nodes": "/api/v1/nodes",
    "rayservices": "/apis/ray.io/v1/namespaces/{namespace}/rayservices",
    "rayclusters": "/apis/ray.io/v1/namespaces/{namespace}/rayclusters",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "services": "/api/v1/namespaces/{namespace}/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "jobs": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "deployments": "/apis/apps/v1/namespaces/{namespace}/deployments",
}
"""Kinds of objects that are collected from every namespace. Never add Secrets."""

_NEWEST_TAILS = r"""
cd "$1" || exit 0
newest() { find . -type f "$@" -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2- | head -n "$files"; }
files=$2
{
    newest -path '*/logs/serve/*'
    newest -path '*/logs/*' \( -name 'python-core-*' -o -name 'raylet*' -o -name 'gcs_server*' -o -name 'dashboard*' \)
} | xargs -r tail -v -c "$3" | head -c "$4"
"""
"""Script that prints the ends of Serve's logs (controller, proxies, replicas) and then of Ray's, each after a line of `tail` with its
name."""
_FILE = re.compile(rb"(?:\A|\n)==> \./(\S+) <==\n")


def collect_ray_logs(api: Api, namespace: str, folder: Path, within_s: float = RAY_WITHIN_S) -> None:
    """Copy the log files of Serve and Ray from all running pods of Ray clusters into the folder, one folder per pod.

    Heads first, because their pods, and the logs with them, are often gone first.
    """
    pods = [p for p in api.items(f"/api/v1/namespaces/{namespace}/pods") if ray_objects.CLUSTER in p["metadata"].get("labels", {})]
    alive = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
    until, left = time.monotonic() + within_s, RAY_BYTES
    for pod in sorted(alive, key=lambda p: p["metadata"]["labels"].get(ray_objects.NODE_TYPE, "")):
        here, left_s = folder / namespace / "ray" / pod["metadata"]["name"], until - time.monotonic()
        if left <= 0 or left_s <= 0:
            _write(here / "left-out.txt", f"the logs of other pods were {RAY_BYTES:,} bytes, or took {within_s:g} s")
            continue
        try:
            left -= _collect_from_pod(api, pod, here, min(left, RAY_POD_BYTES), min(left_s, RAY_POD_WITHIN_S))
        except (PipelineError, OSError) as error:  # one pod must not hide the others
            _write(here / "no-logs.txt", str(error))


def _collect_from_pod(api: Api, pod: Object, folder: Path, most_bytes: int, within_s: float) -> int:
    """Copy the pod's log files into the folder; returns their size in bytes."""
    name, namespace, container = pod["metadata"]["name"], pod["metadata"]["namespace"], pod["spec"]["containers"][0]["name"]
    command = ["sh", "-c", _NEWEST_TAILS, "sh", RAY_FOLDER, *map(str, (RAY_FILES, RAY_FILE_BYTES, most_bytes))]
    data = api.exec(namespace, name, container, command, timeout_s=within_s, most_bytes=2 * RAY_POD_BYTES)
    _, *parts = _FILE.split(data)
    for file, text in zip(parts[::2], parts[1::2], strict=True):
        _write(_inside(folder, file.decode(errors="replace")), text.decode(errors="replace"))
    return len(data)


def _inside(folder: Path, name: str) -> Path:
    """Path in the folder for a file name from a pod; never outside of the folder."""
    return folder.joinpath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))


def collect_objects(api: Api, namespaces: Iterable[str], folder: Path) -> None:
    """Write objects, events and container logs of the namespaces into the folder."""
    for namespace in namespaces:
        here = folder / namespace
        for kind, path in _KINDS.items():
            if kind != "nodes" or namespace == "kube-system":
                _write(here / f"{kind}.yaml", _as_yaml(api.items(path.format(namespace=namespace))))
        events = (f"{e.t:.1f} {e.kind} {e.subject}: {e.what} {e.detail}" for e in kubernetes_events(api, namespace, 0))
        _write(here / "events.txt", "\n".join(events))
        for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
            _collect_container_logs(api, pod, here)


def _collect_container_logs(api: Api, pod: Object, folder: Path) -> None:
    metadata = pod["metadata"]
    statuses = [*(pod.get("status", {}).get("initContainerStatuses") or ()), *(pod.get("status", {}).get("containerStatuses") or ())]
    for status in statuses:
        for previous in (False, True) if status.get("restartCount") else (False,):
            query = {"container": status["name"], "tailLines": LOG_LINES, "previous": str(previous).lower()}
            code, data = api.raw("GET", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log", query=query)
            name = f"{metadata['name']}.{status['name']}{'.previous' if previous else ''}.log"
            _write(folder / name, data.decode(errors="replace") if code == 200 else f"no log: HTTP {code}")


def copy_terraform_logs(folder: Path) -> None:
    """Copy the last lines of Terraform's logs into the folder, except those of `output`, which prints secrets."""
    for log in sorted(TERRAFORM_RUNS.glob("*/*.log")):
        if log.name != "output.log":
            with log.open(encoding="utf-8", errors="replace") as lines:
                _write(folder / "terraform" / f"{log.parent.name}.{log.name}", "".join(deque(lines, maxlen=TERRAFORM_LINES)))


def _as_yaml(objects: list[Object]) -> str:
    for obj in objects:
        obj.get("metadata", {}).pop("managedFields", None)
    return str(yaml.safe_dump_all(clean(objects), sort_keys=False))


def _write(path: Path, text: Any) -> None:
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(clean(str(text)), encoding="utf-8")


def best_effort(what: str, collect: Callable[[], None]) -> None:
    """Run `collect` and only log its errors: the bundle must not hide the error that it is made for."""
    try:
        collect()
    except Exception as error:
        get_run_logger().warning("%s could not be collected completely: %s", what, error)


@step("collect debug bundle", deadline_s=180, retries=0)
def collect_debug(site: Site, service: Service, folder: Path) -> Path:
    """Collect pods, events, logs (containers, Serve, Ray) and Terraform's last lines in `debug/` of the folder, as far as possible."""
    bundle = folder / "debug"
    namespaces = ("kube-system", kuberay.NAMESPACE, service.namespace, HOME, chat.NAMESPACE)
    best_effort("Terraform's last lines", lambda: copy_terraform_logs(bundle))
    best_effort("the log files of Serve and Ray", lambda: collect_ray_logs(site.api(), service.namespace, bundle))
    best_effort("the cluster's objects and logs", lambda: collect_objects(site.api(), namespaces, bundle))
    return bundle
