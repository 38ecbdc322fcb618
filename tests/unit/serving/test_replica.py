"""A replica whose engine cannot answer any more ends its process, so that the API asks another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from serving.engines.profiles import ABANDONED

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, os, sys

import serving.metrics
from serving.engines.callbacks import EngineCallbacks, Stats
from serving.engines.contract import Limits, NotReady, Request
from serving.engines.profiles import Profile
from serving.replica import Replica

class Breaks:
    broken = False

    def start(self):
        pass

    async def ready(self):
        pass

    async def generate(self, request):
        if self.broken:
            raise NotReady("three steps in a row failed")
        yield "a piece"

    def check(self):
        if self.broken:
            raise NotReady("three steps in a row failed")

    def stats(self):
        return Stats()

engine = Breaks()

def build(settings, callbacks):
    return engine

async def main(how):
    sys.modules["breaks"] = sys.modules["__main__"]
    replica = Replica.__new__(Replica)
    await replica.__init__(Profile("breaks", text_engine="breaks:build"), EngineCallbacks())
    request = Request("r", (1,), 1)
    for engine.broken in (False, True):
        if how == "check":
            replica.check_health()
        else:
            print([piece async for piece in replica.generate(request)], flush=True)

for how in ("check", "request"):
    if not (child := os.fork()):
        asyncio.run(main(how))
        os._exit(0)
    print(how, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_replica_with_a_broken_engine_ends_at_the_next_request_or_check() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == [f"check {ABANDONED}", "['a piece']", f"request {ABANDONED}"], done.stderr
    assert done.stderr.count("three steps in a row failed") == 2
