"""The result of a check of the doctor. Each check is a function that returns one. Standard library only.

The doctor's modules also load on Python versions that are too old for the rest, so that the doctor can report that.
"""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
SETUP = "setup"
"""Status of what does not exist yet and is installed by setup."""
WARNING = "warning"
"""Status of what may work, but the user should know about."""
MISSING = "missing"
"""Status of what will not work, and only the user can fix."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    status: str
    """One of OK, SETUP, WARNING and MISSING."""
    detail: str
    """Description of what was found."""
    remedy: str = ""
    """Advice to the user; empty when there is nothing to do."""
