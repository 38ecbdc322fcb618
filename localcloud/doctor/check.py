"""What the doctor looks at: one function per question, each answering with a Check. Standard library only.

The modules also load on Pythons that are too old for the rest, so that the doctor can say so.
"""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
SETUP = "setup"
"""Not there yet; setup puts it there."""
WARNING = "warning"
"""It may work; the user should know."""
MISSING = "missing"
"""It will not work, and only the user can mend it."""


@dataclass(frozen=True)
class Check:
    """One answer."""

    name: str
    status: str
    """OK, SETUP, WARNING or MISSING."""
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do; empty when there is nothing to do."""
