"""What happens when a run ends badly: it asks for a sweep, which is a run of its own, seen and retried.

A hook only asks: while it runs, the run it belongs to is held in its state, and nothing limits how long.
"""

from __future__ import annotations

import inspect
from typing import Any

from prefect.deployments import run_deployment
from prefect.exceptions import ParameterTypeError
from prefect.utilities.asyncutils import run_coro_as_sync

SWEEP = "sweep/main"
ENDED_IN_ORDER = frozenset({"VerdictFailed", "NotApproved", "BadParameters", "NoSuchTarget"})
"""Names of failed states after which nothing is left to sweep."""
PASSED_ON = ("target", "infrastructure", "service")


def idempotency_key(flow_run: Any) -> str:
    """The same however often one death is reported; another one when the same run was retried and died again."""
    return f"sweep-{flow_run.id}-{flow_run.run_count}"


def sweep_parameters(flow_run: Any) -> dict[str, Any]:
    """What the sweep is told: where the run was, and whose things to sweep."""
    given = {name: flow_run.parameters[name] for name in PASSED_ON if name in flow_run.parameters}
    return {**given, "owner": str(flow_run.id)}


def ask_for_sweep(flow: Any, flow_run: Any, state: Any) -> None:
    """A sweep of this run's drill is scheduled."""
    if state.name in ENDED_IN_ORDER or _refused(flow, flow_run.parameters):
        return
    asked = run_deployment(
        SWEEP,
        parameters=sweep_parameters(flow_run),
        flow_run_name=f"sweep-{flow_run.name}",
        idempotency_key=idempotency_key(flow_run),
        tags=["sweep"],
        timeout=0,
        as_subflow=False,
    )
    if inspect.iscoroutine(asked):  # called from a loop, as a worker does
        run_coro_as_sync(asked)


def _refused(flow: Any, parameters: dict[str, Any]) -> bool:
    """Whether the flow takes no such parameters: then nothing began, and the sweep would refuse them as well."""
    try:
        flow.validate_parameters(parameters)
    except ParameterTypeError:
        return True
    return False
