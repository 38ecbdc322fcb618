"""The picture of a series: the recovery time of each fault, and beside it, on the same scale, their distribution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from drills.report.picture.scale import nice_step
from drills.report.picture.style import PATTERNS
from drills.report.picture.svg import element, number, text
from drills.series import Row, SeriesEvidence

WIDTH, HEIGHT, TOP, FOOT = 1080.0, 190.0, 34.0, 40.0
LEFT, FAULTS, SHARES, RIGHT = 60.0, 690.0, 768.0, 1056.0
"""The x coordinates where the faults begin and end, and where the bars do."""
UNRECOVERED_ROW = 20.0
"""Height of the row above for the faults from which the service did not recover."""


def recoveries(series: SeriesEvidence) -> str:
    """Draw the picture as SVG; empty when the service recovered from no fault."""
    rows = [row for row in series.faults if row.fault_at is not None]
    known = [row.recovery_s for row in rows if row.recovery_s is not None]
    if not known:
        return ""
    # The scale begins at zero, so that small differences do not look large.
    step = nice_step(max(known) * 1.05, 5)
    high = step * math.ceil(max(known) / step)
    never = [row for row in rows if row.recovery_s is None]
    top = TOP + (UNRECOVERED_ROW if never else 0.0)
    body = [
        text("Recovery, fault by fault", LEFT, 15, "name"),
        text("Distribution", SHARES, 15, "name"),
        *(_level(n * step, high, top) for n in range(round(high / step) + 1)),
        *_numbers(rows, top),
        *(_fault(row, rows, high, top) for row in rows),
        *_bars(rows, high, top),
        *_marks(series, high, top),
    ]
    if never:
        body.append(text("never", LEFT - 8, TOP + 9, "tick", "end"))
    label = f"Recovery of {len(rows)} faults: half took at most {series.recovery_s.p50:.1f} s, the longest {series.recovery_s.worst:.1f} s"
    return element(
        "svg",
        PATTERNS,
        *body,
        class_="lw",
        viewBox=f"0 0 {number(WIDTH)} {number(top + HEIGHT + FOOT)}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def _y(seconds: float, high: float, top: float) -> float:
    return top + HEIGHT * (1 - seconds / high)


def _x(row: Row, rows: Sequence[Row]) -> float:
    first, last = rows[0].number, rows[-1].number
    return LEFT + 14 + (FAULTS - LEFT - 28) * ((row.number - first) / (last - first) if last > first else 0.5)


def _level(seconds: float, high: float, top: float) -> str:
    y = _y(seconds, high, top)
    lines = [element("line", x1=x1, x2=x2, y1=y, y2=y, class_="grid") for x1, x2 in ((LEFT, FAULTS), (SHARES, RIGHT))]
    return "".join(lines) + text(f"{seconds:g} s", LEFT - 8, y + 3.5, "tick", "end")


def _numbers(rows: Sequence[Row], top: float) -> list[str]:
    """Draw the numbers of the faults below, as many as there is room for."""
    step = max(1, round(nice_step(max(len(rows), 2), 15)))
    numbered = [row for row in rows if row.number == 1 or row.number % step == 0]
    bottom = top + HEIGHT
    return [
        *(text(str(row.number), _x(row, rows), bottom + 17, "tick", "middle") for row in numbered),
        text("fault", (LEFT + FAULTS) / 2, bottom + 34, "", "middle"),
        text("faults", (SHARES + RIGHT) / 2, bottom + 34, "", "middle"),
    ]


def _fault(row: Row, rows: Sequence[Row], high: float, top: float) -> str:
    """Draw one fault: solid with the default grace, hollow when forced; red unless it passed."""
    size = 4.2 if len(rows) <= 60 else 2.6 if len(rows) <= 250 else 1.6
    bad = row.verdict != "passed"
    hollow = row.grace == "forced"
    class_ = ("hollow-bad" if bad else "hollow") if hollow else ("bad" if bad else "ok")
    y = TOP + 6 if row.recovery_s is None else _y(row.recovery_s, high, top)
    took = "not recovered" if row.recovery_s is None else f"{row.recovery_s:.1f} s"
    return element(
        "circle",
        element("title", f"fault {row.number}: {took}, {row.verdict}"),
        cx=_x(row, rows),
        cy=y,
        r=size - 0.7 * hollow,
        class_=class_,
    )


def _bars(rows: Sequence[Row], high: float, top: float) -> list[str]:
    """Draw the distribution of recovery times as bars, with forced faults to the right of the others."""
    width = nice_step(high, 20)
    bins: dict[str, Counter[int]] = {"default": Counter(), "forced": Counter()}
    for row in rows:
        if row.recovery_s is not None:
            bins[row.grace][min(math.floor(row.recovery_s / width), math.ceil(high / width) - 1)] += 1
    most = max((bins["default"] + bins["forced"]).values())
    room, drawn = RIGHT - SHARES - 34, []
    for n in sorted({*bins["default"], *bins["forced"]}):
        y, height = _y((n + 1) * width, high, top) + 0.8, HEIGHT * width / high - 1.6
        own, forced = (room * bins[grace][n] / most for grace in ("default", "forced"))
        drawn += [element("rect", x=SHARES, y=y, width=own, height=height, class_="ok")] if own else []
        drawn += [element("rect", x=SHARES + own, y=y, width=forced, height=height, class_="ok-soft")] if forced else []
        drawn.append(text(str(bins["default"][n] + bins["forced"][n]), SHARES + own + forced + 5, y + height / 2 + 3.5, "tick"))
    return drawn


def _marks(series: SeriesEvidence, high: float, top: float) -> list[str]:
    """Draw the percentiles, across both parts."""
    drawn = []
    for name, value, beside in (("p50", series.recovery_s.p50, 11), ("p95", series.recovery_s.p95, -4)):
        if value is not None:
            y = _y(value, high, top)
            drawn.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="limit"))
            drawn.append(text(f"{name} {value:.1f} s", (FAULTS + SHARES) / 2, y + beside, "limit-text", "middle"))
    return drawn
