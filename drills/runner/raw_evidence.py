"""The raw evidence of a drill: every observation is a line on disk at once, so a runner that dies loses nothing and the next one
continues the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from drills.observed import Event, Snapshot


class RawEvidence:
    """The observations of one attempt of a drill from one fault to the next: snapshots, events, figures. The records of the whole attempt
    are in one file beside them.

    Each fault has a part of its own, so that a long series is never read as a whole: part 0 has the time before the first fault, part n the
    time after fault n.
    """

    def __init__(self, folder: Path, part: int = 0) -> None:
        self.folder, self.part = folder, part
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._file, self.records):
            _cut_half_line(file)

    @property
    def _file(self) -> Path:
        return self.folder / f"seen-{self.part:03}.jsonl"

    @property
    def records(self) -> Path:
        """The file with the load's records, as far as they were read."""
        return self.folder / "records.jsonl"

    def add(self, kind: str, value: Any) -> None:
        """Append a value under a name."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: value}) + "\n")

    def snapshot(self, seen: Snapshot) -> None:
        """Append a snapshot of the service."""
        self.add("snapshot", seen.model_dump(mode="json"))

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, in order."""
        return [Snapshot.model_validate(value) for value in self._all("snapshot")]

    def events(self) -> list[Event]:
        """Return all events, in order."""
        return [Event.model_validate(value) for value in self._all("event")]

    def last(self, kind: str, default: Any = None) -> Any:
        """Return the last value under that name."""
        return next(reversed(list(self._all(kind))), default)

    def _all(self, kind: str) -> Iterator[Any]:
        if not self._file.exists():
            return
        with self._file.open(encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                if kind in found:
                    yield found[kind]


def _cut_half_line(file: Path) -> None:
    """Remove an incomplete last line, which a runner that died may have left: nothing can be appended to it."""
    if not file.exists() or file.stat().st_size == 0:
        return
    # Mapped, and not read: the records of a long series are hundreds of megabytes.
    with file.open("rb") as lines, mmap(lines.fileno(), 0, access=ACCESS_READ) as data:
        whole = data.rfind(b"\n") + 1
    os.truncate(file, whole)
