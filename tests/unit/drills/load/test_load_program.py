"""The load as the cluster runs it: one file, in a Python that has no package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_service import Service, running

from drills.records import read_lines
from drills.request import Template
from drills.runner import load_file


async def started(tmp_path: Path, service: Service, **more: Any) -> asyncio.subprocess.Process:
    """Start the load on a plan, in an empty folder and with a secret header."""
    (tmp_path / "load.pyz").write_bytes(load_file.make())
    short = {"short_per_s": 20, "short_tokens": 2, "streams": 2, "stream_tokens": 3, "max_duration_s": 600, "linger_s": 600, "port": 0}
    plan = {"url": service.url, "template": Template.of("leeward").for_load(), **short, **more}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", tmp_path / "load.pyz", tmp_path / "plan.json"),
        cwd=tmp_path,
        env={**os.environ, "LEEWARD_HEADER_1": "sesame", "LEEWARD_NODE": "core-2"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def address(load: asyncio.subprocess.Process) -> str:
    """Return where the load's own API answers, which is its first word."""
    assert load.stdout is not None
    return f"http://127.0.0.1:{(await load.stdout.readline()).decode().split()[-1]}"


def test_it_sends_is_watched_and_stopped_and_ends_at_once_when_told_to(tmp_path: Path) -> None:
    async def go() -> tuple[dict[str, Any], bytes, int, set[str | None]]:
        async with running() as service:
            load = await started(tmp_path, service)
            async with httpx.AsyncClient(base_url=await address(load), timeout=60) as api:
                while (await api.get("/status")).json()["sent"] < 20:
                    await asyncio.sleep(0.05)
                await api.post("/stop")
                while (status := (await api.get("/status")).json())["state"] != "done":
                    await asyncio.sleep(0.05)
                records = (await api.get("/records?offset=0")).content
            load.terminate()
            return status, records, await load.wait(), set(service.keys)

    status, records, code, keys = asyncio.run(go())
    found = list(read_lines(records.decode().splitlines(keepends=True)))
    assert Counter(record.outcome for record in found) == {"finished": status["sent"]}
    assert (status["node"], status["checks"]) == ("core-2", {"short": "ids", "stream": "ids"})
    assert keys == {"Bearer sesame"}
    assert code == 128 + 15, "it is process 1 of its container, which has no default handler"


def test_it_ends_with_the_reason_when_the_service_gives_no_right_answer(tmp_path: Path) -> None:
    async def go() -> tuple[int, str]:
        async with running() as service:
            service.stream = "error"
            load = await started(tmp_path, service, warm_up_s=0.2)
            _, stderr = await load.communicate()
            return int(load.returncode or 0), stderr.decode()

    code, reason = asyncio.run(go())
    assert code == 1
    assert reason.startswith("load: no right answers within 0 s: stream: cut, error in the stream")
    assert "Traceback" not in reason


@pytest.mark.parametrize("plan", [{"streams": -1}, {"template": Template.of("plain").for_load()}, {"url": "ftp://x"}])
def test_a_plan_that_cannot_be_sent_is_refused(tmp_path: Path, plan: dict[str, Any]) -> None:
    async def go() -> tuple[int, str]:
        load = await started(tmp_path, Service(), **{"url": "http://127.0.0.1:1", **plan})
        _, stderr = await load.communicate()
        return int(load.returncode or 0), stderr.decode()

    code, reason = asyncio.run(go())
    assert code == 1
    assert reason.startswith("load: "), reason
    assert reason.count("\n") == 1
