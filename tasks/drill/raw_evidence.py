"""What a drill saw, line by line on disk as it sees it: a runner that dies loses nothing, and the next one goes on writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drills.observed import Event, Snapshot
from tasks.drill.load_job import LoadStatus

PIECE = 2**16
"""Bytes that are looked at at once."""


class Notebook:
    """The raw material of one drill attempt from one fault to the next: snapshots, events, figures. The records of all of the attempt lie
    beside.

    A page a fault, so that a long series is never read whole: page 0 has what was seen before the first fault.
    """

    def __init__(self, folder: Path, page: int = 0) -> None:
        self.folder, self.page = folder, page
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._seen, self.records):
            _cut_half_line(file)

    @property
    def _seen(self) -> Path:
        return self.folder / f"seen-{self.page:03}.jsonl"

    @property
    def records(self) -> Path:
        """The load's records as far as they were read."""
        return self.folder / "records.jsonl"

    def add(self, kind: str, value: Any) -> None:
        """One more line."""
        with self._seen.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: value}) + "\n")

    def snapshot(self, seen: Snapshot) -> None:
        """One more look at the service."""
        self.add("snapshot", seen.model_dump(mode="json"))

    def snapshots(self) -> list[Snapshot]:
        """All looks, in order."""
        return [Snapshot.model_validate(value) for value in self._all("snapshot")]

    def events(self) -> list[Event]:
        """What was noted besides."""
        return [Event.model_validate(value) for value in self._all("event")]

    def load(self) -> LoadStatus | None:
        """What the load said last when it had ended; None when it did not come to that."""
        told = self.last("load")
        return None if told is None else LoadStatus.model_validate(told)

    def last(self, kind: str, default: Any = None) -> Any:
        """What was noted last under that name."""
        return next(reversed(list(self._all(kind))), default)

    def _all(self, kind: str) -> Iterator[Any]:
        if not self._seen.exists():
            return
        with self._seen.open(encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                if kind in found:
                    yield found[kind]


def _cut_half_line(file: Path) -> None:
    """The file ends with a whole line: the last one of a runner that died may be half, and nothing can be written on behind it."""
    if not file.exists():
        return
    with file.open("rb+") as lines:
        end = lines.seek(0, os.SEEK_END)
        whole = 0
        # From its end: the records of a long series are hundreds of megabytes.
        for since in range(max(0, end - PIECE), -PIECE, -PIECE):
            lines.seek(max(0, since))
            if (found := lines.read(PIECE).rfind(b"\n")) >= 0:
                whole = max(0, since) + found + 1
                break
        lines.truncate(whole)
