"""The errors of the pipeline, by what to do about them.

    PipelineError
    ├── Transient     try again: the world may have changed
    └── Permanent     do not try again: a person or a change is needed
        └── TimedOut  a wait reached its deadline; waiting again would not help

Only `Transient` is retried. Every message contains what was tried, the last observation, and what to do.
Errors of a library pass through only where there is nothing to do about them; otherwise they are chained to one of these.
"""

from __future__ import annotations

from typing import Any

BACKOFF_S = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
"""Seconds between tries. A list, because Prefect's own exponential backoff has no ceiling."""


class PipelineError(Exception):
    """The root of all errors raised on purpose by the pipeline."""


class Transient(PipelineError):
    """Try again: the world may have changed."""


class Permanent(PipelineError):
    """Do not try again: a person or a change is needed."""


class TimedOut(Permanent):
    """A wait reached its deadline; the message names what was waited for and what was observed last."""


def worth_retrying(_task: Any, _task_run: Any, state: Any) -> bool:
    """Whether a failed task is tried again. Must be a plain function: with any other callable Prefect never retries, without an error."""
    try:
        state.result()
    except Transient:
        return True
    except BaseException:  # any other error would come again
        return False
    return False
