"""The decorator of all tasks: a name, a deadline, retries of Transient errors only, no cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from blocks.errors import BACKOFF_S, worth_retrying

P = ParamSpec("P")
R = TypeVar("R")

JITTER = 0.2
"""Share of the retry delay that is random, so that runs that failed together do not retry together."""


def step(name: str, deadline_s: float | None, retries: int = 3) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator that makes a task of a function that is safe to run again.

    Nothing is cached: the result of an earlier try may not hold any more.

    Args:
        deadline_s: Seconds for one try. The deadline interrupts the function, so such tasks must be called directly, on the main
            thread. None is for submitted tasks: Prefect cannot interrupt a thread, and all their waits have deadlines of their own.
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
