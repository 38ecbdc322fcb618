"""Splits the raw evidence and the records of an attempt of a drill by its faults.

A fault is judged on the steady time before it, its lead-in, and on everything up to the next fault. The lead-in of a later fault is the
end of the time after the previous fault: its requests are examined for both, and counted once.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.definition import Drill
from drills.observed import Event, Footprint, LoadSeen, Observation, Snapshot, Versions
from drills.records import Record
from drills.runner import load_job
from drills.runner.journal import Journal
from drills.runner.raw_evidence import RawEvidence
from drills.runner.watch import CLOCK_OFFSET, FOOTPRINT, LOAD

ALWAYS, NEVER = float("-inf"), float("inf")


@dataclass(frozen=True, slots=True)
class Window:
    """Everything that one fault is judged on; the records are on the load's clock."""

    observation: Observation
    lead_in: tuple[Record, ...]
    """Requests that ended in the lead-in of the fault, and belong to the previous fault."""
    own: tuple[Record, ...]
    """Requests that ended after the fault and before the next one; for the first fault also those that ended before it."""

    @property
    def records(self) -> tuple[Record, ...]:
        """All requests that the fault is judged on."""
        return self.lead_in + self.own


def windows(folder: Path, journal: Journal, drill: Drill, versions: Versions, aborted: str = "") -> Iterator[Window]:
    """Yield one window for each fault that was done, in order; one without a fault when none was done.

    Args:
        aborted: Why the last fault was not observed to the end; empty when it was.
    """
    done = [fault for fault in journal.faults if fault.strikes and fault.strikes[0].done]
    times = [fault.at for fault in done]
    parts = [RawEvidence(folder, part) for part in range(len(times) + 1)]
    offsets = _offsets(parts)
    bounds = [at + offset for at, offset in zip(times, offsets[1:], strict=True)]
    load = load_of(parts[-1])
    cut = _cut(parts[-1].records, bounds)
    lead_in: tuple[Record, ...] = ()
    own = next(cut)
    for n in range(max(1, len(times))):
        following = next(cut, ())
        since = times[n] - drill.timing.before_s if n else ALWAYS
        until, last = (times[n + 1], False) if n + 1 < len(times) else (NEVER, True)
        snapshots, events = _seen(parts[n : n + 2], since, until)
        before = journal.before if last and journal.before and (not times or journal.before.t <= times[n]) else None
        if before and not any(s.t <= before.t for s in snapshots):
            snapshots = [before, *snapshots]  # the raw evidence stays on the machine of an earlier run, the journal does not
        yield Window(
            Observation(
                started=max(journal.started, since),
                ended=snapshots[-1].t if snapshots else min(until, time.time()),
                fault_at=times[n] if times else None,
                strikes=tuple(strike for strike in done[n].strikes if strike.done) if done else (),
                snapshots=tuple(snapshots),
                events=tuple(events),
                load=load if len(times) < 2 else _load(load, since + offsets[n + 1], lead_in + own, following, last=last),
                outliving_streams=0 if last else sum(r.kind == "stream" and r.sent <= bounds[n] for r in following),
                clock_offset_s=offsets[min(n + 1, len(times))],
                aborted=aborted if last else "",
                versions=versions,
                footprint=Footprint.model_validate(parts[min(n + 1, len(times))].last(FOOTPRINT, {})),
            ),
            lead_in,
            own,
        )
        lead_in = () if last else tuple(r for r in own if r.end >= bounds[n + 1] - drill.timing.before_s)
        own = following


def load_of(raw: RawEvidence) -> LoadSeen | None:
    """Return what the load reported at its end; None when it could not be asked, or never sent anything."""
    status = raw.last(LOAD)
    if status is None or status["started"] is None or status["stopped"] is None:
        return None
    return LoadSeen.model_validate({name: status[name] for name in LoadSeen.model_fields if name in status})


def _offsets(parts: Sequence[RawEvidence]) -> list[float]:
    """Return the load's clock minus the observer's for every part; where it is missing, that of the part before or the first known."""
    noted = [part.last(CLOCK_OFFSET) for part in parts]
    known = next((offset for offset in noted if offset is not None), 0.0)
    found = []
    for offset in noted:
        known = known if offset is None else offset
        found.append(float(known))
    return found


def _cut(file: Path, bounds: Sequence[float]) -> Iterator[tuple[Record, ...]]:
    """Yield the records of each window. The file has them in the order in which they ended."""
    at = 0
    found: list[Record] = []
    for record in load_job.records_in(file):
        while at < bisect_right(bounds, record.end) - 1:
            yield tuple(found)
            at, found = at + 1, []
        found.append(record)
    yield tuple(found)


def _seen(parts: Sequence[RawEvidence], since: float, until: float) -> tuple[list[Snapshot], list[Event]]:
    """Return the snapshots and events of these parts in that time, and at least the last snapshot of the first part."""
    by_part = [part.snapshots() for part in parts]
    found = [s for those in by_part for s in those if s.t >= since]
    if by_part[0] and (not found or found[0].t > by_part[0][-1].t):
        found.insert(0, by_part[0][-1])
    # A retried task has written the events again.
    events = dict.fromkeys(event for part in parts for event in part.events())
    return found, [event for event in events if since <= event.t < until]


def _load(load: LoadSeen | None, since: float, records: Sequence[Record], following: Sequence[Record], *, last: bool) -> LoadSeen | None:
    """Return the load of one fault of several; None when it is not known when it began, or whether the last fault's records are complete.

    A request that was alive at the next fault belongs to the next fault: for this one the load stopped when the first of those was due.
    """
    started = max(since, load.started if load else min((r.due for r in records), default=since))
    if (last and load is None) or not math.isfinite(started):
        return None
    dues = [r.due for r in (following if not last else ()) if r.kind == "short"] or [r.end for r in records[-1:]] or [started]
    return LoadSeen(
        started=started,
        stopped=load.stopped if last and load else min(dues),
        sent=len({r.id for r in records}),
        node=load.node if load else "",
        checks=load.checks if load else {},
    )
