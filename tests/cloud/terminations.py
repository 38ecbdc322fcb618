"""The ways in which a run is ended early, and the points at which that happens: the two axes of the matrix in test_terminations.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGINT, SIGKILL

from machine_state import command_line
from system_under_test import System, processes_of

from scripts import stack
from scripts.support.processes import Process, children


@dataclass(frozen=True)
class TerminationPoint:
    """A point in the middle of a stage."""

    task: str
    leftovers: frozenset[str]
    """Kinds of things that certainly exist after a run was ended in this stage."""
    progress: str = ""
    """Pattern of the task's progress to wait for, so that something is half done."""


POINTS = {
    "provision": TerminationPoint("apply infrastructure", frozenset({"s3 bucket", "secretsmanager secret"}), r"apply: [1-9]\d* of"),
    "verify": TerminationPoint("check cluster", frozenset({"eks cluster", "nodes"})),
    "deploy": TerminationPoint("wait for service", frozenset({"eks cluster", "nodes", "RayService"})),
    "drill": TerminationPoint("observe recovery", frozenset({"RayService", "worker pod"})),
    "cleanup": TerminationPoint("destroy infrastructure", frozenset({"s3 bucket"}), r"destroy: [1-9]\d* of"),
}
"""Stage → point, in the order of a lifecycle, so that each run starts with what the previous one left."""


@dataclass(frozen=True)
class Termination:
    """A way to end a run."""

    apply: Callable[[System, str], None]
    final_states: frozenset[str]
    """State types that Prefect may record for the run afterwards."""


def interrupt(system: System, flow_run: str) -> None:
    """Send SIGINT, as Ctrl-C does, to the run's own process."""
    for process in _of_command(processes_of(flow_run), "prefect.engine"):
        process.signal(SIGINT)


def cancel(system: System, flow_run: str) -> None:
    """Cancel the run, as the button in the Prefect UI does."""
    stack.prefect(system.services, "flow-run", "cancel", flow_run)


def kill_worker(system: System, flow_run: str) -> None:
    """Send SIGKILL to the worker alone. The run goes on until it next writes to the pipe that nothing reads any more."""
    _kill(workers(system))


def kill_runner(system: System, flow_run: str) -> None:
    """Send SIGKILL to the run's own process; the worker reports that to Prefect."""
    _kill(processes_of(flow_run))


def kill_both(system: System, flow_run: str) -> None:
    """Send SIGKILL to both, so that no process is left that could report it to Prefect."""
    _kill([*workers(system), *processes_of(flow_run)])


TERMINATIONS = {
    "interrupted": Termination(interrupt, frozenset({"CRASHED"})),
    "cancelled": Termination(cancel, frozenset({"CANCELLED"})),
    # A submitted task, such as building images, may be the first to write to the closed pipe: then the run fails by it.
    "worker": Termination(kill_worker, frozenset({"CRASHED", "FAILED"})),
    # Terraform outlives this one and finishes its work, so it comes last: after the others the next run finds something half done.
    "runner": Termination(kill_runner, frozenset({"CRASHED"})),
    "both": Termination(kill_both, frozenset({"CRASHED"})),
}


def cases() -> list[tuple[str, str]]:
    """Return stage and way of every case, in the order in which they run."""
    # Prefect detects "both" in the same way in every stage, and takes two minutes for it, so one stage is enough.
    return [(stage, way) for stage in POINTS for way in TERMINATIONS if way != "both" or stage == "drill"]


def deployment(stage: str, way: str) -> str:
    """Return the deployment to run: the lifecycle, or for a half-finished clean-up only the clean-up."""
    return "cleanup/main" if stage == "cleanup" and way != next(iter(TERMINATIONS)) else "lifecycle/main"


def workers(system: System) -> list[Process]:
    """Return the processes of Prefect's worker; empty while it is being started again."""
    programs = [program for first in children(system.services.process) for program in children(first)]
    return _of_command(programs, "worker start")


def _of_command(processes: list[Process], words: str) -> list[Process]:
    return [process for process in processes if words in command_line(process.pid)]


def _kill(processes: list[Process]) -> None:
    assert processes, "there is no process to kill"
    for process in processes:
        process.signal(SIGKILL)
