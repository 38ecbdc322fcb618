"""Synthetic series that look like measured ones: the evidence of each fault by drills.evidence, from synthetic drills."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from drill_runs import LOSES, SURVIVES, T0, World, observation, records

from drills import evidence, series
from drills.definition import Series
from drills.evidence import Evidence
from drills.judge.verdict import judge
from drills.observed import Footprint, LoadSeen
from drills.series import Early, Row, SeriesEvidence

BETWEEN_S = 90.0


@cache
def fault(world: World) -> tuple[Evidence, Row]:
    """Return the evidence and the row of one fault."""
    seen, those = observation(world), records(world)
    found = evidence.make_evidence(world.drill, seen, those, judge(world.drill, seen, those), target="embedded", run="calm-otter")
    return found, series.make_row(found, those, "fault-001")


def rows(count: int, lossy: Sequence[int] = (), seed: int = 3, leak: float = 0.0) -> list[Row]:
    """Return the rows of so many faults with both graces in turn. `leak`: MiB by which the memory grows with each head."""
    dice, found = random.Random(seed), []
    for number in range(1, count + 1):
        _, row = fault(LOSES if number in lossy else SURVIVES)
        grace = "default" if number % 2 else "forced"
        footprint = Footprint(
            head_memory_bytes=int((410 + leak * number + dice.gauss(0, 6)) * 2**20),
            redis_entries=2100 + 14 * number,
            dead_actors=3 * number,
        )
        changes = {
            "number": number,
            "folder": f"fault-{number:03}",
            "grace": grace,
            "fault_at": T0 + BETWEEN_S * (number - 1),
            "recovery_s": round((19 if grace == "default" else 15) + dice.gammavariate(2, 2.2), 3),
            "longest_silence_s": round(0.4 + dice.expovariate(2), 3),
            "footprint": footprint,
        }
        found.append(row.model_copy(update=changes))
    return found


def made(those: Sequence[Row], repeat: int | None = None, early: Early | None = None, missing: int = 0) -> SeriesEvidence:
    """Return the evidence of a series of these rows."""
    first, _ = fault(SURVIVES)
    sent = sum(row.requests.sent + row.streams.sent for row in those) + missing
    load = LoadSeen(started=T0 - 20, stopped=T0 + 1000, sent=sent)
    return series.make_series(first, those, SURVIVES.drill, Series(repeat=repeat or len(those), graces="in-turn"), load, early)


__all__ = ["fault", "made", "replace", "rows"]
