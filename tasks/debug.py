"""The debug bundle: what a person would look at first, in files beside the evidence. Nothing secret is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from prefect import get_run_logger

from blocks.parameters import Service
from drills.redact import clean
from tasks import addons, chat, journal
from tasks.kubernetes import Api, Object
from tasks.observation import kubernetes_events
from tasks.site import Site
from tasks.step import step

LOG_LINES = 2000
TERRAFORM_LINES = 200
TERRAFORM = Path(__file__).resolve().parent.parent / ".leeward" / "terraform"
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
"""What is written down of every namespace. Secrets are not among them, and are not to be."""


def of_cluster(api: Api, namespaces: Iterable[str], folder: Path) -> None:
    """Objects, events and logs of the namespaces lie in the folder."""
    for namespace in namespaces:
        here = folder / namespace
        for kind, path in _KINDS.items():
            if kind != "nodes" or namespace == "kube-system":
                _write(here / f"{kind}.yaml", _as_yaml(api.items(path.format(namespace=namespace))))
        events = (f"{e.t:.1f} {e.kind} {e.subject}: {e.what} {e.detail}" for e in kubernetes_events(api, namespace, 0))
        _write(here / "events.txt", "\n".join(events))
        for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
            _logs(api, pod, here)


def _logs(api: Api, pod: Object, folder: Path) -> None:
    metadata = pod["metadata"]
    statuses = [*(pod.get("status", {}).get("initContainerStatuses") or ()), *(pod.get("status", {}).get("containerStatuses") or ())]
    for status in statuses:
        for previous in (False, True) if status.get("restartCount") else (False,):
            query = {"container": status["name"], "tailLines": LOG_LINES, "previous": str(previous).lower()}
            code, data = api.raw("GET", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log", query=query)
            name = f"{metadata['name']}.{status['name']}{'.previous' if previous else ''}.log"
            _write(folder / name, data.decode(errors="replace") if code == 200 else f"no log: HTTP {code}")


def of_terraform(folder: Path, home: Path = TERRAFORM) -> None:
    """The last lines that Terraform printed lie in the folder; of `output` none, as it prints secrets."""
    for log in sorted(home.glob("*/*.log")):
        if log.name != "output.log":
            with log.open(encoding="utf-8", errors="replace") as lines:
                _write(folder / "terraform" / f"{log.parent.name}.{log.name}", "".join(deque(lines, maxlen=TERRAFORM_LINES)))


def _as_yaml(things: list[Object]) -> str:
    for thing in things:
        thing.get("metadata", {}).pop("managedFields", None)
    return str(yaml.safe_dump_all(clean(things), sort_keys=False))


def _write(path: Path, text: Any) -> None:
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(clean(str(text)), encoding="utf-8")


def best_effort(what: str, collect: Callable[[], None]) -> None:
    """Collects; when that fails it is said, and nothing more: the bundle must not hide why it was wanted."""
    try:
        collect()
    except Exception as error:
        get_run_logger().warning("%s could not be collected whole: %s", what, error)


@step("collect debug bundle", deadline_s=180, retries=0)
def collect_debug(site: Site, service: Service, folder: Path) -> Path:
    """What could be had of pods, events, logs and Terraform lies in `debug/` of the folder."""
    bundle = folder / "debug"
    namespaces = ("kube-system", addons.NAMESPACE, service.namespace, journal.NAMESPACE, chat.NAMESPACE)
    best_effort("Terraform's last lines", lambda: of_terraform(bundle))
    best_effort("the cluster's objects and logs", lambda: of_cluster(site.api(), namespaces, bundle))
    return bundle
