"""What a drill saw, line by line on disk as it sees it: a runner that dies loses nothing, and the next one goes on writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drills.observation import Event, Snapshot
from tasks.traffic import LoadStatus


class Notebook:
    """The raw material of one drill attempt: snapshots, events, the load's last words, and its records beside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._seen, self.records):
            _cut_half_line(file)

    @property
    def _seen(self) -> Path:
        return self.folder / "seen.jsonl"

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
        return next((LoadStatus.model_validate(value) for value in reversed(list(self._all("load")))), None)

    def number(self, kind: str, default: float = 0.0) -> float:
        """The last number noted under that name."""
        return next((float(value) for value in reversed(list(self._all(kind)))), default)

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
    if file.exists():
        with file.open("rb+") as lines:
            lines.truncate(lines.read().rfind(b"\n") + 1)
