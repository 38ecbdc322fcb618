"""A new engine is added in the four places that ARCHITECTURE.md names, and in no other (the recipe: CONTRIBUTING.md)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from serving.engines.profiles import ABANDONED, PROFILES

ROOT = Path(__file__).parents[4]

ENGINE = """
from serving.engines.callbacks import Stats
from serving.engines.contract import Limits, NotReady, Piece

class EchoEngine:
    def __init__(self, settings, callbacks):
        self.limits = Limits(settings.slots, settings.positions, settings.positions - 1, vocabulary=100)
        self.state, self.callbacks = "new", callbacks
    def start(self):
        self.state = "working"
    async def ready(self):
        self.check()
        return self.limits
    async def generate(self, request):
        yield Piece(request.prompt)
        self.callbacks.ended("finished")
        yield Piece((), "stop")
    def check(self):
        if self.state != "working":
            raise NotReady(self.state)
    def stats(self):
        return Stats(slots=self.limits.slots)
    async def stop(self):
        self.state = "stopped"

def build(settings, callbacks):
    return EchoEngine(settings, callbacks)
"""
PROFILE = 'PROFILES = (\n    Profile("echo", text_engine="serving.engines.echo:build"),'
IMAGE = "ARG HEAD_BASE=python:3.12.1\nARG BASE=echo:1\n\nFROM $BASE AS echo\n"
MANIFEST = """
metadata: {annotations: {leeward.dev/ready-within-s: "600"}}
spec:
  rayClusterConfig:
    workerGroupSpecs:
      - groupName: inf2
        template:
          spec:
            containers:
              - name: ray-worker
                image: ${worker_image}
                env:
                  - {name: LEEWARD_ENGINE, value: echo}
                  - {name: LEEWARD_SLOTS, value: "32"}
                  - {name: LEEWARD_MAX_TOKENS, value: "64"}
                resources: {requests: {cpu: "2", memory: 3Gi}, limits: {memory: 3Gi}}
"""

PIPELINE = """
from blocks.parameters import Scaling, Service
from blocks.target import Images
from tasks.images.builder import KINDS
from tasks.images.publish import recipes
from tasks.service import engines, preflight, rayservice

service = Service(engine="echo", scaling=Scaling())
assert "echo" in str(Service.model_json_schema()), "the form in the Prefect UI offers it"
(ray_service,) = [t for t in rayservice.render(service, "echo", preflight.IMAGES, None) if t["kind"] == "RayService"]
(group,) = ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
(container,) = group["template"]["spec"]["containers"]
assert container["image"] == preflight.IMAGES.worker
assert container["resources"] == {"requests": {"cpu": "2", "memory": "3Gi"}, "limits": {"memory": "3Gi"}}
assert "neuron_cores" not in str(ray_service), "what another engine claims is not claimed for this one"
(broken,) = preflight.check(ray_service).findings
assert broken.rule.name == "GCS fault tolerance", "it was rendered without a Redis"
assert engines.needs("echo") == engines.Needs(slots=32, tokens=64, cpus=2.0, memory_gib=3, disk_gib=0, ready_within_s=600.0)
found = recipes("echo", Images(base="debian"))
assert {role: (r.kind, r.base) for role, r in found.items()} == {
    "head": ("head", "python:3.12.1"), "worker": ("echo", ""), "chat": ("chat", "debian")}
assert found["worker"].file.name == "echo.Containerfile" and "echo" in KINDS
"""
REPLICA = """
import asyncio
from serving.engines.contract import Request
from serving.replica import Replica

async def live():
    replica = Replica.__new__(Replica)
    await replica.__init__()
    assert (await replica.ready()).slots == 32
    assert [p.tokens async for p in replica.generate(Request("r", (1, 2), 2))] == [(1, 2), ()]
    replica.check_health()
    await replica.__del__()
    replica.check_health()  # the engine is of no use any more, so this ends the process

asyncio.run(live())
"""


def run(checkout: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout, as a worker with the new engine."""
    environment = {"LEEWARD_ENGINE": "echo", "LEEWARD_SLOTS": "32", "HOME": str(checkout), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_an_engine_that_batches_by_itself_is_added_in_four_places_and_goes_from_the_parameters_to_its_replica(tmp_path: Path) -> None:
    for folder in ("blocks", "drills", "localcloud", "manifests", "serving", "startup", "tasks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "serving/engines/echo.py").write_text(ENGINE)
    profiles = tmp_path / "serving/engines/profiles.py"
    profiles.write_text(profiles.read_text().replace("PROFILES = (", PROFILE, 1))
    (tmp_path / "serving/images/echo.Containerfile").write_text(IMAGE)
    (tmp_path / "manifests/engine-echo.yaml").write_text(MANIFEST)
    done = run(tmp_path, PIPELINE + REPLICA)
    assert done.returncode == ABANDONED, done.stderr
    assert done.stderr == "leeward: the echo engine is given up, and its process with it: stopped\n"


def test_every_profile_has_a_manifest_and_every_manifest_of_an_engine_a_profile() -> None:
    assert {f"engine-{profile.name}.yaml" for profile in PROFILES} == {file.name for file in (ROOT / "manifests").glob("engine-*.yaml")}
