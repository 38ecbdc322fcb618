"""`leeward undo`: what a drill that died has left is undone and removed."""

from __future__ import annotations

import argparse
from uuid import uuid4

from drills.cli.exits import LEFT
from drills.cli.terminal import Terminal
from drills.kubernetes.api import Api
from drills.runner import faults
from drills.runner import journal as journals
from drills.runner.discovery import find_subject
from drills.runner.journal import Lock


def run(options: argparse.Namespace, api: Api) -> int:
    """Undo and remove everything; return the exit code."""
    subject, owner, terminal = find_subject(api, options.namespace, options.service, None), f"undo-{uuid4().hex[:8]}", Terminal()
    if journals.read(api, subject) is None and not Lock(api, subject, owner).holder():
        print(f"no drill has left anything at {subject}")
        return 0
    journals.acquire(api, subject, owner, terminal.progress("drill-lock").show_pending)  # without undoing: that is reported here
    try:
        found = faults.undo(api, subject, terminal.say)
    except faults.UndoFailed as error:
        Lock(api, subject, owner).release()
        print(f"{error}; run leeward undo again")
        return LEFT
    journals.remove_loads_of(api, subject)
    journals.remove_journal(api, subject)
    print(f"nothing of a drill is left at {subject}; undone: {', '.join(found) or 'nothing had to be'}")
    return 0
