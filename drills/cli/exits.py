"""The exit codes of `leeward`."""

from __future__ import annotations

from drills.judge.verdict import Verdict

REFUSED = 2
"""The command was refused, and nothing was touched."""
NO_VERDICT = 3
"""The drill ended without a verdict on the service."""
LEFT = 4
"""Something of the drill could not be removed or undone."""
INTERRUPTED = 130
"""Ctrl-C ended a command that only reads."""
PIPE = 141
"""The reader of the output was gone, as a shell reports it."""
EXITS: dict[Verdict, int] = {"passed": 0, "failed": 1, "aborted": NO_VERDICT, "void": NO_VERDICT}
"""The exit code of each verdict."""


class Refusal(Exception):
    """The command was not carried out, and nothing was touched; the message says what to change."""
