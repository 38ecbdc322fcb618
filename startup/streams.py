"""Standard output and error that cannot end a program: a reader that is gone, a closed terminal or a full disk only ends the output.

`./demo | head`, a terminal window that is closed, `./demo >&-`: what is written there is lost, and the clean-up goes on.
"""

from __future__ import annotations

import io
import locale
import os
import select
import sys

PATIENCE_S = 2.0
"""Seconds that output may wait for its reader once `hurry` was called."""
_PIECE = 4096
"""Bytes that a pipe takes at once when it says that it can be written to (PIPE_BUF)."""


class Output(io.FileIO):
    """A file descriptor to which writing never fails. Unbuffered, so that a signal handler may write while its program does."""

    waits_s: float | None = None
    """Seconds to wait for a reader that does not read; None: as long as it takes."""

    def write(self, data: object, /) -> int:
        """Write all of it, or drop the rest when nothing can be written any more."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # TextIOWrapper passes bytes
        done = 0
        while done < len(view):
            try:
                if not select.select([], [self], [], Output.waits_s)[1]:
                    Output.waits_s = 0.0
                    break
                done += super().write(view[done : done + _PIECE]) or 0
            except OSError:
                break
        return len(view)


def hurry() -> None:
    """From now on, drop output that its reader does not take within PATIENCE_S seconds: a clean-up must not wait for `less`."""
    Output.waits_s = PATIENCE_S if Output.waits_s is None else Output.waits_s


def protect() -> None:
    """Replace stdout and stderr by streams to which writing never fails; open those that are closed to /dev/null."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would get the number, and all that is printed
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        if before is not None:
            before.flush()
        raw = Output(number, "w", closefd=False)
        stream = io.TextIOWrapper(raw, charset(), "replace", line_buffering=True, write_through=True)  # raw, as with Python's -u
        setattr(sys, name, stream)


def charset() -> str:
    """Return the terminal's character set. Not ASCII, unless the user says so: it is what a shell without any locale has."""
    if os.environ.get("PYTHONIOENCODING") and sys.stdout is not None:
        return sys.stdout.encoding
    found = locale.getencoding()
    return "utf-8" if found.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968", "646") else found
