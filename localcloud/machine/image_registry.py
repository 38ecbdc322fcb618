"""The image registry behind the embedded ECR: Debian's docker-registry, plain HTTP, on an address of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from localcloud import settings
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.processes import wait_until


def start(folder: Path, logs: Path) -> Box:
    """The registry answers at settings.REGISTRY; images can be deleted from it."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps(_config(folder)))
    log = logs / "registry.log"
    service = Service("registry", ("docker-registry", "serve", str(config)), str(log))
    box = Box("image registry", runner_command(folder, [service]), log=log)

    def missing() -> str | None:
        box.check()
        return unanswered()

    wait_until("the image registry answers", missing, within=60.0)
    return box


def unanswered() -> str | None:
    """None when the registry answers, else what came instead."""
    try:
        with urllib.request.urlopen(f"http://{settings.REGISTRY}/v2/", timeout=2):
            return None
    except (OSError, urllib.error.URLError) as error:
        return str(error)


def _config(folder: Path) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}},
        "http": {"addr": settings.REGISTRY},
    }
