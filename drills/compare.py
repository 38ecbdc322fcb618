"""Two drills, or two series, of the same fault and load side by side, and whether the second is worse."""

from __future__ import annotations

from pathlib import Path

from drills.definition import Drill, Series
from drills.evidence import BadEvidence, Evidence, EvidenceFile
from drills.series import SeriesEvidence
from drills.value import Value

Drilled = Evidence | SeriesEvidence


class Incomparable(ValueError):
    """The two are not of the same fault and load, or one has no verdict on its service."""


class Figure(Value):
    """One figure of both."""

    name: str
    first: str
    second: str
    worse: bool = False


class Comparison(Value):
    """The figures of both, and why the second is worse."""

    figures: tuple[Figure, ...]
    why: tuple[str, ...]
    """Why the second is worse; empty when it is not."""


def read(path: Path) -> Drilled:
    """Return the evidence in a file, or in the file of a folder: of its series, if it has one.

    Raises:
        BadEvidence: there is none.
    """
    names = [path / name for name in ("series.json", "evidence.json")] if path.is_dir() else [path]
    file = next((name for name in names if name.is_file()), None)
    if file is None:
        raise BadEvidence(f"{path} has no series.json and no evidence.json")
    kinds: tuple[type[EvidenceFile], ...] = (SeriesEvidence, Evidence) if file.name.startswith("series") else (Evidence, SeriesEvidence)
    try:
        found = kinds[0].load(file)
    except BadEvidence:
        found = kinds[1].load(file)
    assert isinstance(found, Evidence | SeriesEvidence)
    return found


def last_passed(folder: Path, service: str, drill: Drill, series: Series) -> tuple[Path, Drilled] | None:
    """Return the newest drill in the folders of that folder that passed and can be compared with this one of the service; None: there is
    none. What is no evidence is passed over."""
    name = "series.json" if series.repeat > 1 else "evidence.json"
    found = []
    for file in folder.glob(f"*/{name}"):
        try:
            one = read(file)
        except BadEvidence:
            continue
        same = (one.definition.faults, one.definition.load) == (drill.faults, drill.load)
        if one.verdict == "passed" and same and one.config.get("service") == service:
            found.append((one.started, file, one))
    return max(found, key=lambda one: one[0])[1:] if found else None


def compare(first: Drilled, second: Drilled) -> Comparison:
    """Compare two drills or two series.

    A series is worse when a promise was missed that the other kept, when it lost requests and the other none, or when its median recovery
    is longer than the longest of the other: chance alone does not do that. Of single drills only the promises are compared, because the
    recovery of one differs from that of the next by seconds.

    Raises:
        Incomparable: see there.
    """
    _check_comparable(first, second)
    if isinstance(first, SeriesEvidence) and isinstance(second, SeriesEvidence):
        return _series(first, second)
    assert isinstance(first, Evidence)
    assert isinstance(second, Evidence)
    before = {slo.id: slo for slo in first.slos}
    pairs = [(before[slo.id], slo) for slo in second.slos if slo.id in before]
    figures = tuple(
        Figure(name=now.name, first=was.actual, second=now.actual, worse=(was.standing, now.standing) == ("kept", "missed"))
        for was, now in pairs
    )
    return Comparison(figures=figures, why=tuple(f"{f.name}: {f.first} before, {f.second} now" for f in figures if f.worse))


def _check_comparable(first: Drilled, second: Drilled) -> None:
    if type(first) is not type(second):
        raise Incomparable("one is a single drill and the other a series; compare two of a kind")
    for which, found in (("first", first), ("second", second)):
        if found.verdict not in ("passed", "failed"):
            raise Incomparable(f"the {which} is {found.verdict}, which is no verdict on its service: {found.headline}")
    one, other = first.definition, second.definition
    if one.faults != other.faults:
        words = [", ".join(fault.describe() for fault in drill.faults) for drill in (one, other)]
        raise Incomparable(f"the first is of the faults {words[0]}, the second of {words[1]}")
    if one.load != other.load:
        names = [name for name in type(one.load).model_fields if getattr(one.load, name) != getattr(other.load, name)]
        raise Incomparable(f"their loads differ in {', '.join(names)}")


def _series(first: SeriesEvidence, second: SeriesEvidence) -> Comparison:
    had, missed = ({name for row in series.faults for name in row.missed} for series in (first, second))
    lost = (first.requests.lost + first.streams.lost, second.requests.lost + second.streams.lost)
    lossy, share = not lost[0] and bool(lost[1]), [f"{series.lossy.lossy} of {series.lossy.of}" for series in (first, second)]
    slower = (
        first.recovery_s.worst is not None and second.recovery_s.p50 is not None and second.recovery_s.p50 > first.recovery_s.worst
    ) or (first.recovery_s.p50 is not None and second.recovery_s.p50 is None)
    figures = (
        Figure(name="Verdict", first=first.verdict, second=second.verdict),
        Figure(name="Faults", first=str(first.done), second=str(second.done)),
        Figure(name="Faults that lost anything", first=share[0], second=share[1], worse=lossy),
        Figure(name="Requests and streams lost", first=str(lost[0]), second=str(lost[1]), worse=lossy),
        Figure(name="Recovery, median", first=_s(first.recovery_s.p50), second=_s(second.recovery_s.p50), worse=slower),
        Figure(name="Recovery, worst", first=_s(first.recovery_s.worst), second=_s(second.recovery_s.worst)),
        Figure(name="Longest silence, worst", first=_s(first.longest_silence_s.worst), second=_s(second.longest_silence_s.worst)),
    )
    why = [f"missed, and kept before: {', '.join(sorted(missed - had))}"] if missed - had else []
    why += [f"{f.name.lower()}: {f.first} before, {f.second} now" for f in figures if f.worse]
    return Comparison(figures=figures, why=tuple(why))


def _s(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds:.1f} s"
