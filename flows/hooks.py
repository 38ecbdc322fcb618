"""Hooks for runs that end badly: they start a sweep, which is a flow run of its own, so it is visible and retried.

A hook does no more, because it blocks the change of its run's state, without a time limit.
"""

from __future__ import annotations

import inspect
from typing import Any

from prefect.deployments import run_deployment
from prefect.exceptions import ParameterTypeError
from prefect.utilities.asyncutils import run_coro_as_sync

SWEEP = "sweep/main"
ENDED_NORMALLY = frozenset({"VerdictFailed", "NotApproved", "BadParameters", "PrerequisitesMissing", "InService", "NoSuchTarget"})
"""Names of Failed states after which nothing is left to sweep."""
PASSED_PARAMETERS = ("target", "infrastructure", "service")


def idempotency_key(flow_run: Any) -> str:
    """The same key for all reports of one death; another key if the run was retried and died again."""
    return f"sweep-{flow_run.id}-{flow_run.run_count}"


def sweep_parameters(flow_run: Any) -> dict[str, Any]:
    """Parameters of the sweep: the site of the run, and its id as the owner."""
    given = {name: flow_run.parameters[name] for name in PASSED_PARAMETERS if name in flow_run.parameters}
    return {**given, "owner": str(flow_run.id)}


def ask_for_sweep(flow: Any, flow_run: Any, state: Any) -> None:
    """Schedule a sweep of this run's drill."""
    if state.name in ENDED_NORMALLY or _refused(flow, flow_run.parameters):
        return
    scheduled = run_deployment(
        SWEEP,
        parameters=sweep_parameters(flow_run),
        flow_run_name=f"sweep-{flow_run.name}",
        idempotency_key=idempotency_key(flow_run),
        tags=["sweep"],
        timeout=0,
        as_subflow=False,
    )
    if inspect.iscoroutine(scheduled):  # called from an event loop, as by a worker
        run_coro_as_sync(scheduled)


def _refused(flow: Any, parameters: dict[str, Any]) -> bool:
    """Whether the flow refuses the parameters: then nothing was started, and the sweep would refuse them too."""
    try:
        flow.validate_parameters(parameters)
    except ParameterTypeError:
        return True
    return False
