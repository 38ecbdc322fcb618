"""What of a drill attempt belongs to which of its faults: the notebook's pages and the records, cut at the faults.

A fault is judged on the calm before it and on everything up to the next one. The calm before a later fault is the end of what belongs to
the fault before: its requests are looked at twice, and counted once.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.definition import Drill
from drills.observed import Event, LoadSeen, Observation, Snapshot, Versions, Vitals
from serving.records import Record
from tasks.drill import load_job
from tasks.drill.journal import Journal
from tasks.drill.raw_evidence import Notebook
from tasks.drill.watch import CLOCK_OFFSET, VITALS

ALWAYS, NEVER = float("-inf"), float("inf")


@dataclass(frozen=True, slots=True)
class Window:
    """What one fault is judged on; the records on the load's clock."""

    observation: Observation
    calm: tuple[Record, ...]
    """Requests that ended in the calm before the fault, and belong to the fault before."""
    own: tuple[Record, ...]
    """Requests that ended after the fault and before the next one; of the first fault, those that ended before it too."""

    @property
    def records(self) -> tuple[Record, ...]:
        """All that the fault is judged on."""
        return self.calm + self.own


def windows(folder: Path, journal: Journal, drill: Drill, versions: Versions, aborted: str = "") -> Iterator[Window]:
    """One window for each fault that was done, in order; one without a fault where none was. `aborted`: why the last was not watched to
    its end."""
    times = [fault.at for fault in journal.faults if fault.done]
    pages = [Notebook(folder, page) for page in range(len(times) + 1)]
    offsets = _offsets(pages)
    bounds = [at + offset for at, offset in zip(times, offsets[1:], strict=True)]
    load = load_of(pages[-1])
    cut = _cut(pages[-1].records, bounds)
    calm: tuple[Record, ...] = ()
    own = next(cut)
    for n in range(max(1, len(times))):
        following = next(cut, ())
        since = times[n] - drill.timing.before_s if n else ALWAYS
        until, last = (times[n + 1], False) if n + 1 < len(times) else (NEVER, True)
        snapshots, events = _seen(pages[n : n + 2], since, until)
        before = journal.before if last and journal.before and (not times or journal.before.t <= times[n]) else None
        if before and not any(s.t <= before.t for s in snapshots):
            snapshots = [before, *snapshots]  # the notebook of another machine is not here, the journal is
        yield Window(
            Observation(
                started=max(journal.started, since),
                ended=snapshots[-1].t if snapshots else min(until, time.time()),
                fault_at=times[n] if times else None,
                snapshots=tuple(snapshots),
                events=tuple(events),
                load=load if len(times) < 2 else _load(load, since + offsets[n + 1], calm + own, following, last=last),
                outliving_streams=0 if last else sum(r.kind == "stream" and r.sent <= bounds[n] for r in following),
                clock_offset_s=offsets[min(n + 1, len(times))],
                aborted=aborted if last else "",
                versions=versions,
                vitals=Vitals.model_validate(pages[min(n + 1, len(times))].last(VITALS, {})),
            ),
            calm,
            own,
        )
        calm = () if last else tuple(r for r in own if r.end >= bounds[n + 1] - drill.timing.before_s)
        own = following


def load_of(notebook: Notebook) -> LoadSeen | None:
    """What the load said of itself at its end; None when it did not come to that."""
    told = notebook.load()
    return load_job.seen(told) if told else None


def _offsets(pages: Sequence[Notebook]) -> list[float]:
    """The load's clock minus ours on every page; where it could not be compared, as on the page before, else as when it first could."""
    noted = [page.last(CLOCK_OFFSET) for page in pages]
    known = next((offset for offset in noted if offset is not None), 0.0)
    found = []
    for offset in noted:
        known = known if offset is None else offset
        found.append(float(known))
    return found


def _cut(file: Path, bounds: Sequence[float]) -> Iterator[tuple[Record, ...]]:
    """The records of each window, one after the other. They stand in the file in the order in which they ended."""
    at = 0
    found: list[Record] = []
    for record in load_job.records_in(file):
        while at < bisect_right(bounds, record.end) - 1:
            yield tuple(found)
            at, found = at + 1, []
        found.append(record)
    yield tuple(found)


def _seen(pages: Sequence[Notebook], since: float, until: float) -> tuple[list[Snapshot], list[Event]]:
    """The looks and the events from one moment to another on these pages; of looks at least the last of the first page."""
    looks = [page.snapshots() for page in pages]
    found = [s for those in looks for s in those if s.t >= since]
    if looks[0] and (not found or found[0].t > looks[0][-1].t):
        found.insert(0, looks[0][-1])
    # A try that came back noted the events again.
    events = dict.fromkeys(event for page in pages for event in page.events())
    return found, [event for event in events if since <= event.t < until]


def _load(load: LoadSeen | None, since: float, records: Sequence[Record], following: Sequence[Record], *, last: bool) -> LoadSeen | None:
    """The load as one fault of several saw it; None when nobody knows whether the records of the last one are complete.

    A request that was alive at the next fault belongs to that: for this one the load stopped when the first of those was due.
    """
    if last and load is None:
        return None
    dues = [r.due for r in (following if not last else ()) if r.kind == "short"] or [r.end for r in records[-1:]] or [since]
    return LoadSeen(
        started=max(since, load.started if load else min((r.due for r in records), default=since)),
        stopped=load.stopped if last and load else min(dues),
        sent=len({r.id for r in records}),
        node=load.node if load else "",
    )
