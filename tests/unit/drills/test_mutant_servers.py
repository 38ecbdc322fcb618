"""Servers and loads that are broken on purpose: the real load asks a real server, and the real judge must name what is wrong.

Both run in virtual time. The load as the cluster runs it, a process of its own, is in load/test_load_program.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import virtual_time
from drill_runs import T0, World, observation
from serving_service import Service, client, running

from drills.definition import Drill, Load, SteadyState, Timing
from drills.judge.verdict import Judgement, judge
from drills.load import run
from drills.observed import LoadSeen
from drills.records import read_lines
from drills.request import Template

LOAD = Load(short_per_s=5, short_tokens=2, streams=3, stream_tokens=10, patience_s=3)
BEFORE_S, RECOVERED_S, AFTER_S = 3.0, 2.0, 6.0
DRILL = Drill.named("head-pod-forced", timing=Timing(before_s=5, after_s=5), load=LOAD).model_copy(
    update={"steady_state": SteadyState(hold_s=1)}
)
WORLD = World(before_s=BEFORE_S, after_s=RECOVERED_S + AFTER_S, head_back_s=0.5, head_ready_s=RECOVERED_S - 0.5)
PAUSE_S = 0.1
"""Seconds between two tokens of a stream."""


@dataclass(frozen=True)
class Case:
    """A server or a load, how it changes, and what must be found."""

    at_fault: dict[str, Any] = field(default_factory=dict)
    """Attributes of the service that change with the fault."""
    at_recovery: dict[str, Any] = field(default_factory=dict)
    """Attributes of the service that change when the cluster has recovered."""
    keep_alive: bool = False
    starts_late: bool = False
    """Whether the load starts after the fault only."""
    stalls_s: float = 0.0
    """Seconds for which the process stands still after the fault."""
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
        {"stream": "times-out", "time_out_s": 0.7},
        causes=("a time-out on the way is shorter than an answer",),
    ),
    "the load starts after the fault": Case(starts_late=True, verdict="void", causes=("No request ended before the fault",)),
    "the load stalls": Case(stalls_s=2.0, verdict="void", causes=("were sent on time",)),
}


async def drilled(records: Path, case: Case) -> Judgement:
    """Run the load against the server, change the server at the times of the fault and of the recovery, and judge the records."""
    clock, plan = virtual_time.clock(), LOAD.model_dump()
    async with running() as service:
        service.pause_s = PAUSE_S
        with client(service, plan["patience_s"], keep_alive=case.keep_alive) as session:
            load = run.Load(run.Plan(service.url, Template.of("leeward").as_sent(), **plan), session, records)
            if case.starts_late:
                fault_at = clock.now()
                await asyncio.sleep(0.5)
            sending = asyncio.ensure_future(load.run(warm_up_s=60, max_duration_s=600))
            while load.state == "warming" and not sending.done():
                await asyncio.sleep(0.01)
            if not case.starts_late:
                await asyncio.sleep(BEFORE_S)
                fault_at = clock.now()
            change(service, case.at_fault)
            virtual_time.loop().stand_still(case.stalls_s)
            await asyncio.sleep(fault_at + RECOVERED_S - clock.now())
            change(service, case.at_recovery)
            await asyncio.sleep(AFTER_S)
            load.stop()
            await sending
    assert load.started is not None
    assert load.stopped is not None
    seen = observation(WORLD).model_copy(
        update={
            "clock_offset_s": fault_at - T0,
            "load": LoadSeen(started=load.started, stopped=load.stopped, sent=load.sent, node="core-1"),
        }
    )
    return judge(DRILL, seen, list(read_lines(records.read_text().splitlines(keepends=True))))


def change(service: Service, attributes: dict[str, Any]) -> None:
    """Set these attributes of the service."""
    for name, value in attributes.items():
        setattr(service, name, value)


@pytest.mark.parametrize("name", CASES)
def test_each_has_its_verdict_and_the_reasons_name_its_cause(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    found = virtual_time.run(drilled(tmp_path / "records", case))
    reasons = " ".join(found.why)
    assert found.verdict == case.verdict, reasons
    assert [words for words in case.causes if words not in reasons] == [], reasons


def test_nothing_else_is_named_for_a_server_that_only_cuts_streams(tmp_path: Path) -> None:
    reasons = " ".join(virtual_time.run(drilled(tmp_path / "records", CASES["200, and the stream is cut"])).why)
    for word in ("GCS", "Redis", "replica of", "time-out", "max_ongoing", "headless", "wait "):
        assert word not in reasons, reasons
