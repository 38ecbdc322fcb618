"""Services that Leeward did not deploy: kubectl alone brings them up on the embedded cloud, each in a namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "strangers"
PREFIX = "stranger-"
"""Beginning of the names of their namespaces."""
READY_WITHIN_S = 600.0
GONE_WITHIN_S = 180.0

Kubectl = Callable[..., str]
"""Runs kubectl with these arguments and returns its output; AssertionError when it fails."""


@contextlib.contextmanager
def deployed(kubectl: Kubectl, name: str, images: Mapping[str, str]) -> Iterator[str]:
    """Deploy the service of a folder below tests/strangers; yield its namespace once the RayService is Ready, and remove it afterwards.

    Args:
        images: The images that the registry has, by the names that the manifests use.
    """
    namespace = f"{PREFIX}{name}"
    kubectl("create", "namespace", namespace)
    try:
        apply(kubectl, name, namespace, images)
        wait_until_ready(kubectl, namespace)
        yield namespace
    finally:
        remove(kubectl, namespace)


@contextlib.contextmanager
def applied(kubectl: Kubectl, namespace: str, objects: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Apply the objects of one service in a namespace of its own; yield once the RayService is Ready, and remove it afterwards."""
    kubectl("create", "namespace", namespace)
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"apiVersion": "v1", "kind": "List", "items": list(objects)}, file)
            file.flush()
            kubectl("apply", "-n", namespace, "-f", file.name)
        wait_until_ready(kubectl, namespace)
        yield
    finally:
        remove(kubectl, namespace)


def apply(kubectl: Kubectl, name: str, namespace: str, images: Mapping[str, str]) -> None:
    """Run `kubectl apply -k` on an overlay that only replaces images."""
    with tempfile.TemporaryDirectory() as folder:
        replaced = []
        for image, there in images.items():
            repository, _, tag = there.rpartition(":") if "@" not in there else there.partition("@")
            replaced.append({"name": image, "newName": repository, "digest" if "@" in there else "newTag": tag})
        # Kustomize takes relative paths only.
        base = os.path.relpath(FOLDER / name, Path(folder).resolve())
        overlay = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [base], "images": replaced}
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        kubectl("apply", "-n", namespace, "-k", folder)


def wait_until_ready(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """Wait until the namespace's RayService is Ready and its applications run; return it."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        (found,) = json.loads(kubectl("-n", namespace, "get", "rayservices", "-o", "json"))["items"]
        status = found.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        applications = (status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}
        if ready and applications and all(a["status"] == "RUNNING" for a in applications.values()):
            return dict(found)
        assert time.monotonic() < deadline, json.dumps(status, indent=1)
        time.sleep(2)


def remove(kubectl: Kubectl, namespace: str) -> None:
    """Remove the service and its namespace. The service first: KubeRay empties the Redis of it, which must still be there."""
    kubectl("-n", namespace, "delete", "rayservices", "--all", f"--timeout={GONE_WITHIN_S:.0f}s")
    kubectl("-n", namespace, "wait", "--for=delete", "rayclusters", "--all", f"--timeout={GONE_WITHIN_S:.0f}s")
    kubectl("delete", "namespace", namespace, f"--timeout={GONE_WITHIN_S:.0f}s")


def inventory(kubectl: Kubectl, namespace: str) -> set[str]:
    """Return every object of the namespace as kind/name, asked of the API for every kind that can be listed.

    Left out is what comes and goes without a drill's doing: events, and Ray's own pods, which have new names after a fault.
    """
    kinds = set(kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split())
    kinds -= {"events", "events.events.k8s.io", "pods", "pods.metrics.k8s.io"}
    listed = ["-n", namespace, "get", "-o", "name", "--ignore-not-found"]
    others = kubectl(*listed, "pods", "-l", "!ray.io/node-type")
    return {*kubectl(*listed, ",".join(sorted(kinds))).split(), *others.split()}


def only(kubectl: Kubectl, namespace: str, rights: str, folder: Path) -> Path:
    """Create what `leeward rbac` printed; return a kubeconfig of its ServiceAccount, which may do nothing else."""
    file = folder / "rights.yaml"
    file.write_text(rights, encoding="utf-8")
    kubectl("apply", "-f", str(file))
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    token = kubectl("-n", namespace, "create", "token", "leeward", "--duration=2h").strip()
    config["users"] = [{"name": "leeward", "user": {"token": token}}]
    config["contexts"][0]["context"].update(user="leeward", namespace=namespace)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    return kubeconfig
