"""An earlier shape of the service, in which only the first deletion of a head went unnoticed: an overlay on the running RayService.

A headless head Service, as KubeRay creates it by default; a head that drains before it ends; and replicas that fetch the classes of
Serve's actors from the GCS. The first two are settings; for the third the workers get another serving/app.py. For tests only.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from scripts.support.paths import ROOT

NAME = "old-shape"
_SWITCH = "    global_worker.set_load_code_from_local(True)\n"
_SERVING = "/opt/leeward/serving"


def application(source: Path = ROOT / "serving" / "app.py") -> str:
    """Return the text of serving/app.py without the line that loads classes locally."""
    text = source.read_text(encoding="utf-8")
    assert text.count(_SWITCH) == 1, f"{source} has no such line any more: this overlay no longer produces the old shape"
    return text.replace(_SWITCH, "")


def overlay(ray_service: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that give a RayService the old shape."""
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
            {"name": NAME, "mountPath": f"{_SERVING}/app.py", "subPath": "app.py", "readOnly": True},
            # Python does not check the image's compiled code against its source, so it is hidden.
            {"name": "compiled", "mountPath": f"{_SERVING}/__pycache__"},
        ]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": metadata["namespace"]},
        "data": {"app.py": application()},
    }
    return [config_map, {**{key: ray_service[key] for key in ("apiVersion", "kind")}, "metadata": metadata, "spec": spec}]
