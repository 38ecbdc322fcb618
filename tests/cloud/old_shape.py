"""The shape that the service had when only its first head died unnoticed: an overlay on the living RayService, for tests alone.

A headless head Service, as KubeRay makes it by default; a head that drains before it goes; and replicas that fetch the classes of Serve's
actors from the GCS. The first two are settings; for the third the workers get another serving/app.py.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from scripts.support.paths import ROOT

NAME = "old-shape"
_SWITCH = "    global_worker.set_load_code_from_local(True)\n"
_HERE = "/opt/leeward/serving"


def application(source: Path = ROOT / "serving" / "app.py") -> str:
    """serving/app.py without the line that loads classes locally."""
    text = source.read_text(encoding="utf-8")
    assert text.count(_SWITCH) == 1, f"{source} has no such line any more: this overlay no longer makes the old shape"
    return text.replace(_SWITCH, "")


def overlay(ray_service: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that give a RayService the old shape."""
    metadata = {key: ray_service["metadata"][key] for key in ("name", "namespace")}
    spec = copy.deepcopy(ray_service["spec"])
    head = spec["rayClusterConfig"]["headGroupSpec"]
    del head["headService"]
    pod = head["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 5
    del pod["containers"][0]["lifecycle"]
    pod["containers"][0]["env"] = [e for e in pod["containers"][0]["env"] if e["name"] != "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]
    for group in spec["rayClusterConfig"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        pod["volumes"] += [{"name": NAME, "configMap": {"name": NAME}}, {"name": "compiled", "emptyDir": {}}]
        pod["containers"][0]["volumeMounts"] += [
            {"name": NAME, "mountPath": f"{_HERE}/app.py", "subPath": "app.py", "readOnly": True},
            # The image's compiled code is taken for good, whatever the source says.
            {"name": "compiled", "mountPath": f"{_HERE}/__pycache__"},
        ]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": metadata["namespace"]},
        "data": {"app.py": application()},
    }
    return [config_map, {**{key: ray_service[key] for key in ("apiVersion", "kind")}, "metadata": metadata, "spec": spec}]
