"""What all tasks have in common: a name, a deadline, retries of Transient errors only, no cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from blocks.errors import BACKOFF_S, worth_retrying

P = ParamSpec("P")
R = TypeVar("R")

JITTER = 0.2
"""So that runs that failed together do not try again together."""


def step(name: str, deadline_s: float | None, retries: int = 3) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Makes a task of a function that is safe to run again.

    Nothing is cached: that something was so in an earlier try does not mean that it still is.

    Args:
        deadline_s: Of one try. It interrupts what runs, so such tasks are called directly, on the main thread. None is for those
            that are submitted: Prefect cannot interrupt a thread, and all that they wait for has a deadline of its own.
    """

    return task(
        name=name,
        timeout_seconds=deadline_s,
        retries=retries,
        retry_delay_seconds=BACKOFF_S[: max(retries, 1)],
        retry_jitter_factor=JITTER,
        retry_condition_fn=worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
