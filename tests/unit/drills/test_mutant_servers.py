"""Servers and loads that are broken on purpose: the real load asks a real server, and the real judge must name what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from drill_runs import T0, World, observation
from serving_service import Service, running

from drills.definition import Drill, Load, SteadyState, Timing
from drills.judge.verdict import Judgement, judge
from drills.load.clock import Clock
from drills.observed import LoadSeen
from drills.records import read_lines
from drills.request import Template
from drills.runner import load_file

LOAD = Load(short_per_s=5, short_tokens=2, streams=3, stream_tokens=10, patience_s=3)
BEFORE_S, RECOVERED_S, AFTER_S = 3.0, 2.0, 6.0
DRILL = Drill.named("head-pod-forced", timing=Timing(before_s=5, after_s=5), load=LOAD).model_copy(
    update={"steady_state": SteadyState(hold_s=1)}
)
WORLD = World(before_s=BEFORE_S, after_s=RECOVERED_S + AFTER_S, head_back_s=0.5, head_ready_s=RECOVERED_S - 0.5)
AT_ONCE = 6
"""Cases that are run at the same time: a load on time needs a share of a processor."""


@dataclass(frozen=True)
class Case:
    """A server or a load, how it changes, and what must be found."""

    at_fault: dict[str, Any] = field(default_factory=dict)
    """Attributes of the service that change with the fault."""
    at_recovery: dict[str, Any] = field(default_factory=dict)
    """Attributes of the service that change when the cluster has recovered."""
    keep_alive: bool = False
    pause_s: float = 0.1
    """Seconds between two tokens of a stream."""
    starts_late: bool = False
    """Whether the load starts after the fault only."""
    stalls_s: float = 0.0
    """Seconds for which the load's process is stopped after the fault."""
    verdict: str = "failed"
    causes: tuple[str, ...] = ()
    """Words that the reasons must have."""


BY_ITSELF = "No worker, replica or endpoint had changed"
WRONG = "whole answers with status 200 were not those of a healthy server"
CASES = {
    "healthy": Case(verdict="passed"),
    "healthy, and connections are kept": Case(keep_alive=True, verdict="passed"),
    "200, and the stream is cut": Case({"stream": "drop"}, causes=("streams began with status 200 and were ended", BY_ITSELF)),
    "200, and the stream ends without its mark": Case({"stream": "end"}, causes=("the stream ended without [DONE]", BY_ITSELF)),
    "200, and fewer tokens with the right mark": Case({"stream": "short"}, causes=("it ends after 2 of 10 tokens", BY_ITSELF)),
    "200, and the answer comes twice": Case({"stream": "twice"}, causes=("it has 20 tokens, a healthy server's answer 10", BY_ITSELF)),
    "200, and an error in the stream": Case({"stream": "error"}, causes=("error in the stream: {", BY_ITSELF)),
    "200, and an error for an answer": Case({"short": "error"}, causes=(WRONG, "a part is missing")),
    "200, and no answer at all": Case({"short": "nonsense"}, causes=(WRONG, "not an answer")),
    "other tokens while the head is away": Case({"short": "wrong"}, {"short": "answer"}, causes=(WRONG, BY_ITSELF)),
    "fluent and wrong after the recovery": Case(
        {}, {"short": "wrong", "stream": "wrong"}, causes=(WRONG, "is another one than a healthy server's", BY_ITSELF)
    ),
    "wrong on streams only": Case({"stream": "wrong"}, causes=(WRONG, "were lost: the first")),
    "it stalls in the middle of a stream": Case({"stream": "stall"}, causes=("hung: “no byte for 3 s”",)),
    "it refuses what it could answer": Case({"short": "busy"}, causes=("refused: “HTTP 429: {",)),
    "kept connections are reset": Case({"short": "drop"}, keep_alive=True, causes=("refused: “",)),
    "a time-out on the way is shorter than a stream": Case(
        # Slower than the others, so that a busy machine does not blur that all end after the same time.
        {"stream": "times-out", "time_out_s": 1.4},
        pause_s=0.2,
        causes=("a time-out on the way is shorter than an answer",),
    ),
    "the load starts after the fault": Case(starts_late=True, verdict="void", causes=("No request ended before the fault",)),
    # Longer than its patience: what came meanwhile is read all the same, and is not lost.
    "the load stalls": Case(stalls_s=4.0, verdict="void", causes=("were sent on time",)),
}


async def drilled(folder: Path, case: Case) -> Judgement:
    """Run the load against the server, change the server at the times of the fault and of the recovery, and judge the records."""
    async with running() as service:
        service.pause_s = case.pause_s
        if case.starts_late:
            fault_at = Clock().now()
            await asyncio.sleep(0.5)
        load = await started(folder, service, case)
        try:
            await until(folder, load, "running")
            if not case.starts_late:
                await asyncio.sleep(BEFORE_S)
                fault_at = Clock().now()
            change(service, case.at_fault)
            if case.stalls_s:
                os.kill(load.pid, signal.SIGSTOP)
                await asyncio.sleep(case.stalls_s)
                os.kill(load.pid, signal.SIGCONT)
            await asyncio.sleep(max(0.0, fault_at + RECOVERED_S - Clock().now()))
            change(service, case.at_recovery)
            await asyncio.sleep(max(0.0, fault_at + RECOVERED_S + AFTER_S - Clock().now()))
            await asked(folder, load, "POST", "/stop")
            status = await until(folder, load, "done")
        finally:
            load.kill()
            await load.wait()
    records = list(read_lines((folder / "records.jsonl").read_text().splitlines(keepends=True)))
    seen = observation(WORLD).model_copy(
        update={
            "clock_offset_s": fault_at - T0,
            "load": LoadSeen(started=status["started"], stopped=status["stopped"], sent=status["sent"], node="core-1"),
        }
    )
    return judge(DRILL, seen, records)


def change(service: Service, attributes: dict[str, Any]) -> None:
    """Set these attributes of the service."""
    for name, value in attributes.items():
        setattr(service, name, value)


async def started(folder: Path, service: Service, case: Case) -> asyncio.subprocess.Process:
    """Start the load as the cluster runs it."""
    folder.mkdir()
    (folder / "load.pyz").write_bytes(load_file.make())
    template = Template.of("leeward").model_copy(update={"keep_alive": case.keep_alive})
    plan = {"url": service.url, "template": template.for_load(), **LOAD.model_dump(), "port": 0}
    (folder / "plan.json").write_text(json.dumps(plan))
    command = (sys.executable, "-I", "-S", folder / "load.pyz", folder / "plan.json")
    with (folder / "log").open("w") as log:
        return await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=log, stderr=log)


async def asked(folder: Path, load: asyncio.subprocess.Process, method: str, path: str) -> dict[str, Any]:
    """Ask the load's own API; it prints its port first."""
    while not (line := (folder / "log").read_text().partition("\n")[0]).startswith("load: "):
        assert load.returncode is None, line
        await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(line.split()[-1]))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


async def until(folder: Path, load: asyncio.subprocess.Process, state: str) -> dict[str, Any]:
    """Wait until the load is in that state; return its status."""
    while (status := await asked(folder, load, "GET", "/status"))["state"] != state:
        assert load.returncode is None, (folder / "log").read_text()
        await asyncio.sleep(0.1)
    return status


@pytest.fixture(scope="module")
def judgements(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judgement]:
    """Each case as it was judged. They wait most of the time, so several are run at once."""
    folder = tmp_path_factory.mktemp("mutants")

    async def go() -> Sequence[Judgement]:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, case: Case) -> Judgement:
            async with free:
                return await drilled(folder / str(number), case)

        return await asyncio.gather(*(one(number, case) for number, case in enumerate(CASES.values())))

    return dict(zip(CASES, asyncio.run(go()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_has_its_verdict_and_the_reasons_name_its_cause(name: str, judgements: dict[str, Judgement]) -> None:
    case, found = CASES[name], judgements[name]
    reasons = " ".join(found.why)
    assert found.verdict == case.verdict, reasons
    assert [words for words in case.causes if words not in reasons] == [], reasons


def test_nothing_else_is_named_for_a_server_that_only_cuts_streams(judgements: dict[str, Judgement]) -> None:
    reasons = " ".join(judgements["200, and the stream is cut"].why)
    for word in ("GCS", "Redis", "replica of", "time-out", "max_ongoing", "headless", "wait "):
        assert word not in reasons, reasons
