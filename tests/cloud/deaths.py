"""The ways in which a run can die, and the moments at which it does: the two sides of the matrix in test_kills.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL

from world import World, processes_of

from scripts import stack
from scripts.support.processes import Process, children


@dataclass(frozen=True)
class Moment:
    """In the middle of a stage."""

    task: str
    named: frozenset[str]
    """Kinds of things that are there for certain after a death in this stage."""
    progress: str = ""
    """Pattern of the task's progress: not before there is something half done."""


STAGES = {
    "provision": Moment("apply infrastructure", frozenset({"s3 bucket", "secretsmanager secret"}), r"apply: [1-9]\d* of"),
    "verify": Moment("check cluster", frozenset({"eks cluster", "nodes"})),
    "deploy": Moment("wait for service", frozenset({"eks cluster", "nodes", "RayService"})),
    "drill": Moment("observe recovery", frozenset({"RayService", "worker pod"})),
    "cleanup": Moment("destroy infrastructure", frozenset({"s3 bucket"}), r"destroy: [1-9]\d* of"),
}
"""In the order of a lifecycle, so that what one death leaves is what the next run begins with."""


@dataclass(frozen=True)
class Way:
    """How a run dies."""

    do: Callable[[World, str], None]
    ends: frozenset[str]
    """State types in which Prefect then has the run."""


def interrupt(world: World, flow_run: str) -> None:
    """Ctrl-C in the run's own process."""
    for process in _of_command(processes_of(flow_run), "prefect.engine"):
        process.signal(SIGINT)


def cancel(world: World, flow_run: str) -> None:
    """The button in the Prefect UI."""
    stack.prefect(world.services, "flow-run", "cancel", flow_run)


def kill_worker(world: World, flow_run: str) -> None:
    """SIGKILL of the worker alone. The run goes on until its next word, which nobody reads."""
    _kill(workers(world))


def kill_runner(world: World, flow_run: str) -> None:
    """SIGKILL of the run's own process; the worker tells Prefect."""
    _kill(processes_of(flow_run))


def kill_both(world: World, flow_run: str) -> None:
    """SIGKILL of both: nobody is left to tell Prefect."""
    _kill([*workers(world), *processes_of(flow_run)])


WAYS = {
    "interrupted": Way(interrupt, frozenset({"CRASHED"})),
    "cancelled": Way(cancel, frozenset({"CANCELLED"})),
    # What is submitted, such as building images, may be what speaks first: then the run fails by it.
    "worker": Way(kill_worker, frozenset({"CRASHED", "FAILED"})),
    # Terraform outlives this one and ends its work, so it comes last: the others leave something half done to the next.
    "runner": Way(kill_runner, frozenset({"CRASHED"})),
    "both": Way(kill_both, frozenset({"CRASHED"})),
}


def cases() -> list[tuple[str, str]]:
    """Stage and way, in the order in which they are done."""
    # Prefect finds out about both in one and the same way, whatever the stage, and takes two minutes for it.
    return [(stage, way) for stage in STAGES for way in WAYS if way != "both" or stage == "drill"]


def deployment(stage: str, way: str) -> str:
    """What is run: everything from the start, but what is half cleaned up need not be made again to be cleaned up on."""
    return "cleanup/main" if stage == "cleanup" and way != next(iter(WAYS)) else "lifecycle/main"


def workers(world: World) -> list[Process]:
    """Prefect's worker; empty while it is being started again."""
    programs = [program for first in children(world.services.process) for program in children(first)]
    return _of_command(programs, "worker start")


def _of_command(processes: list[Process], words: str) -> list[Process]:
    return [process for process in processes if words in _command(process)]


def _command(process: Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _kill(processes: list[Process]) -> None:
    assert processes, "there is nobody to kill"
    for process in processes:
        process.signal(SIGKILL)
