"""The image registry behind the embedded ECR: Debian's docker-registry, plain HTTP, on an address of its own."""

from __future__ import annotations

import json
from pathlib import Path

from localcloud import settings
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.processes import http_problem


def start(folder: Path, logs: Path) -> Box:
    """Start the registry and return when it answers at settings.REGISTRY. Images can be deleted from it."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps(_config(folder)))
    log = logs / "registry.log"
    service = Service("registry", ("docker-registry", "serve", str(config)), str(log))
    box = Box("image registry", runner_command(folder, [service]), log=log)
    box.wait_until("the image registry answers", lambda: http_problem(settings.REGISTRY_HOST, settings.REGISTRY_PORT, "/v2/"), within=60.0)
    return box


def _config(folder: Path) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}},
        "http": {"addr": settings.REGISTRY},
    }
