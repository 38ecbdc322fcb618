"""Puts drills into the table of docs/what-ray-survives.md: `python -m scripts.installed.survives FOLDER…`.

Each folder, or file, is the evidence of a drill or of a series. It replaces the row of its page of the catalogue; the other rows stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from drills.compare import Drilled, read
from drills.evidence import Evidence
from drills.series import SeriesEvidence

PAGE = Path(__file__).parents[2] / "docs" / "what-ray-survives.md"
BEGIN, END = "<!-- table: python -m scripts.installed.survives -->", "<!-- end of the table -->"
HEAD = (
    "| page | fault | verdict | faults | requests lost | streams lost | longest silence | recovery | Ray | why it failed |",
    "|--|--|--|--|--|--|--|--|--|--|",
)


def row(found: Drilled) -> str:
    """Return the row of a drill or of a series."""
    cells = _of_series(found) if isinstance(found, SeriesEvidence) else _of_drill(found)
    why = found.why[0] if found.why else ""
    texts = (f"`{found.drill}`", found.title, found.verdict, *cells, found.versions.ray, why)
    return f"| {' | '.join(text.replace('|', '/').replace(chr(10), ' ') for text in texts)} |"


def _of_drill(found: Evidence) -> tuple[str, ...]:
    streams = found.streams
    gaps = [phase.longest_gap_s for phase in found.phases if phase.name != "before" and phase.longest_gap_s is not None]
    return (
        "1",
        f"{found.requests.failed:,} of {found.requests.sent:,}",
        f"{streams.sent - streams.finished:,} of {streams.sent:,}",
        f"{max(gaps):.1f} s" if gaps else "–",
        "not in time" if found.recovery_s is None else f"{found.recovery_s:.1f} s",
    )


def _of_series(found: SeriesEvidence) -> tuple[str, ...]:
    silence, recovery = found.longest_silence_s.worst, found.recovery_s
    return (
        f"{found.done}, {found.lossy.lossy} with losses (at most {100 * found.lossy.upper:.0f} %)",
        f"{found.requests.lost:,} of {found.requests.sent:,}",
        f"{found.streams.lost:,} of {found.streams.sent:,}",
        f"{silence:.1f} s" if silence is not None else "–",
        "not in time" if recovery.p50 is None else f"p50 {recovery.p50:.1f} s, worst {recovery.worst:.1f} s",
    )


def inserted(text: str, rows: Iterable[str]) -> str:
    """Return the page with these rows in its table, sorted by page of the catalogue."""
    before, _, rest = text.partition(f"{BEGIN}\n")
    table, _, after = rest.partition(END)
    known = {_page(line): line for line in [*table.splitlines()[len(HEAD) :], *rows] if line.strip()}
    return "\n".join([f"{before}{BEGIN}", *HEAD, *(known[name] for name in sorted(known)), f"{END}{after}"])


def _page(line: str) -> str:
    return line.split("|")[1].strip(" `")


def main(arguments: list[str], page: Path = PAGE) -> int:
    """Put the evidence into the page."""
    page.write_text(inserted(page.read_text(encoding="utf-8"), [row(read(Path(argument))) for argument in arguments]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
