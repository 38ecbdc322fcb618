"""The errors of the pipeline, by what to do about them.

    PipelineError
    ├── Transient     try again: the world may have changed
    └── Permanent     do not try again: a person or a change is needed
        └── TimedOut  a wait used up its deadline, which is all the patience there is

Only `Transient` is retried. Every message says what was tried, what was seen last, and what to do.
Errors of a library pass through only where nobody can act on them; else they are chained to one of these.
"""

from __future__ import annotations

from typing import Any

BACKOFF_S = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
"""Between tries. A list, because Prefect's own exponential backoff has no ceiling."""


class PipelineError(Exception):
    """The root of all errors raised on purpose by the pipeline."""


class Transient(PipelineError):
    """Try again: the world may have changed."""


class Permanent(PipelineError):
    """Do not try again: a person or a change is needed."""


class TimedOut(Permanent):
    """A wait used up its deadline; the message says what it waited for and what it saw last."""


def worth_retrying(_task: Any, _task_run: Any, state: Any) -> bool:
    """Whether a failed task is tried again. A plain function: Prefect silently never retries by anything else."""
    try:
        state.result()
    except Transient:
        return True
    except BaseException:  # whatever else it was, trying again would not help
        return False
    return False
