"""The ways in which a run can die, and the moments at which it does: the two sides of the matrix in test_kills.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL

from system_under_test import System, processes_of

from scripts import stack
from scripts.support.processes import Process, children


@dataclass(frozen=True)
class TerminationPoint:
    """In the middle of a stage."""

    task: str
    leftovers: frozenset[str]
    """Kinds of things that are there for certain after a death in this stage."""
    progress: str = ""
    """Pattern of the task's progress: not before there is something half done."""


POINTS = {
    "provision": TerminationPoint("apply infrastructure", frozenset({"s3 bucket", "secretsmanager secret"}), r"apply: [1-9]\d* of"),
    "verify": TerminationPoint("check cluster", frozenset({"eks cluster", "nodes"})),
    "deploy": TerminationPoint("wait for service", frozenset({"eks cluster", "nodes", "RayService"})),
    "drill": TerminationPoint("observe recovery", frozenset({"RayService", "worker pod"})),
    "cleanup": TerminationPoint("destroy infrastructure", frozenset({"s3 bucket"}), r"destroy: [1-9]\d* of"),
}
"""In the order of a lifecycle, so that what one death leaves is what the next run begins with."""


@dataclass(frozen=True)
class Termination:
    """How a run dies."""

    apply: Callable[[System, str], None]
    final_states: frozenset[str]
    """State types in which Prefect then has the run."""


def interrupt(system: System, flow_run: str) -> None:
    """Ctrl-C in the run's own process."""
    for process in _of_command(processes_of(flow_run), "prefect.engine"):
        process.signal(SIGINT)


def cancel(system: System, flow_run: str) -> None:
    """The button in the Prefect UI."""
    stack.prefect(system.services, "flow-run", "cancel", flow_run)


def kill_worker(system: System, flow_run: str) -> None:
    """SIGKILL of the worker alone. The run goes on until its next word, which nobody reads."""
    _kill(workers(system))


def kill_runner(system: System, flow_run: str) -> None:
    """SIGKILL of the run's own process; the worker tells Prefect."""
    _kill(processes_of(flow_run))


def kill_both(system: System, flow_run: str) -> None:
    """SIGKILL of both: nobody is left to tell Prefect."""
    _kill([*workers(system), *processes_of(flow_run)])


TERMINATIONS = {
    "interrupted": Termination(interrupt, frozenset({"CRASHED"})),
    "cancelled": Termination(cancel, frozenset({"CANCELLED"})),
    # What is submitted, such as building images, may be what speaks first: then the run fails by it.
    "worker": Termination(kill_worker, frozenset({"CRASHED", "FAILED"})),
    # Terraform outlives this one and ends its work, so it comes last: the others leave something half done to the next.
    "runner": Termination(kill_runner, frozenset({"CRASHED"})),
    "both": Termination(kill_both, frozenset({"CRASHED"})),
}


def cases() -> list[tuple[str, str]]:
    """Stage and how, in the order in which they are done."""
    # Prefect finds out about both in one and the same how, whatever the stage, and takes two minutes for it.
    return [(stage, how) for stage in POINTS for how in TERMINATIONS if how != "both" or stage == "drill"]


def deployment(stage: str, how: str) -> str:
    """What is run: everything from the start, but what is half cleaned up need not be made again to be cleaned up on."""
    return "cleanup/main" if stage == "cleanup" and how != next(iter(TERMINATIONS)) else "lifecycle/main"


def workers(system: System) -> list[Process]:
    """Prefect's worker; empty while it is being started again."""
    programs = [program for first in children(system.services.process) for program in children(first)]
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
