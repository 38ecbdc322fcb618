"""The errors of the pipeline, by what to do about them.

    PipelineError
    ├── Transient     try again: the world may have changed
    └── Permanent     do not try again: a person or a change is needed

Only `Transient` is retried. Every message says what was tried, what was seen last, and what to do.
Errors of a library pass through only where nobody can act on them; else they are chained to one of these.
"""

from __future__ import annotations


class PipelineError(Exception):
    """The root of all errors raised on purpose by the pipeline."""


class Transient(PipelineError):
    """Try again: the world may have changed."""


class Permanent(PipelineError):
    """Do not try again: a person or a change is needed."""
