"""The panels of short requests: how many per second were answered or failed, and the latency of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drills.definition import Slos
from drills.records import Record
from drills.report.picture.figure import Panel, grid_line
from drills.report.picture.marks import mark
from drills.report.picture.scale import TimeAxis, bin_width, log_y, nice_step
from drills.report.picture.svg import element, number, text

RATE, LATENCY = 84.0, 120.0
FAILED_ROW = 18.0
"""Height of the row for failed requests above the latencies."""


def rate_panel(axis: TimeAxis, short: Sequence[Record]) -> Panel:
    """Draw requests per second by when they were due: answered ones below, failed ones (striped) on top."""
    width = bin_width(axis.span)
    bins: dict[int, list[int]] = {}
    for record in short:
        if axis.shows(record.due):
            bins.setdefault(math.floor(record.due / width), [0, 0])[not record.ok] += 1
    first, last = (short[0].due, short[-1].due) if short else (0.0, 0.0)
    last += (last - first) / max(len(short) - 1, 1)
    rates = {n: _per_s(n, width, ok_bad, first, last) for n, ok_bad in bins.items()}
    step = nice_step(max((ok + bad for ok, bad in rates.values()), default=1.0) * 1.05, 3)
    top = step * math.ceil(max((ok + bad for ok, bad in rates.values()), default=1.0) / step - 0.05)
    grid = [grid_line(axis, RATE * (1 - n * step / top), f"{n * step:g}") for n in range(round(top / step) + 1)]
    bars = [_bar(axis, n * width, width, ok / top, bad / top) for n, (ok, bad) in sorted(rates.items())]
    failed = sum(not r.ok for r in short)
    return Panel("Short requests a second", f"{len(short):,} sent, {failed:,} failed (red, striped)", RATE, "".join(grid + bars))


def _per_s(n: int, width: float, ok_bad: Sequence[int], first: float, last: float) -> tuple[float, float]:
    """Return the rates in a bin, by the part of it in which requests were due: the first and last bins are rarely complete."""
    covered = min((n + 1) * width, last) - max(n * width, first)
    # In a very short part at the edge a single request would look like a spike.
    share = width if covered < 0.5 * width else covered
    return ok_bad[0] / share, ok_bad[1] / share


def _bar(axis: TimeAxis, since: float, width: float, ok: float, bad: float) -> str:
    x, end = axis.x(since), axis.x(since + width)
    w = max((end - x) * 0.9, 0.6)
    scale = RATE if ok + bad <= 1 else RATE / (ok + bad)
    parts = [element("rect", x=x, y=RATE - ok * scale, width=w, height=ok * scale, class_="ok")] if ok else []
    if bad:
        height = max(bad * scale, 2.5)
        parts.append(element("rect", x=x, y=RATE - ok * scale - height, width=w, height=height, class_="pod-bad"))
    return "".join(parts)


def latency_panel(axis: TimeAxis, short: Sequence[Record], slos: Slos, during: tuple[float, float] | None) -> Panel:
    """Draw every short request as a dot at its latency, a failed one as its mark, and the p99 limits as a line."""
    shown = [r for r in short if axis.shows(r.due)]
    low, high = _range([r.latency_s for r in shown if r.ok], slos)
    ticks = [10.0**n for n in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    grid = "".join(grid_line(axis, log_y(v, low, high, LATENCY), f"{v:g} s" if v >= 1 else f"{v * 1000:g} ms") for v in ticks)

    # One dot per place: 20 000 requests would be a megabyte of overlapping dots.
    dots = sorted({(round(axis.x(r.due), 1), round(log_y(r.latency_s, low, high, LATENCY), 1)) for r in shown if r.ok})
    path = "".join(f"M{number(x)} {number(y)}h0" for x, y in dots)
    drawn = element("path", d=path, class_="dot", stroke_width=3 if len(dots) < 3000 else 2) if path else ""
    lost = _failed(axis, [r for r in shown if not r.ok])
    limit = _limits(axis, slos, during, low, high)
    note = "each dot one request, from when it was due; logarithmic"
    room = FAILED_ROW if lost else 0.0
    body = lost + element("g", grid, limit, drawn, transform=f"translate(0 {number(room)})")
    return Panel("Latency of short requests", note, LATENCY + room, body)


def _failed(axis: TimeAxis, failed: Sequence[Record]) -> str:
    """Draw failed requests, which have no latency, in a row of their own: one mark per place and outcome."""
    if not failed:
        return ""
    places = sorted({(round(axis.x(r.due)), r.outcome) for r in failed})
    row = text("failed", axis.left - 7, 7.5, "tick", "end")
    return row + "".join(mark(outcome, x, 4, 2.8) for x, outcome in places)


def _range(latencies: Sequence[float], slos: Slos) -> tuple[float, float]:
    """Return the powers of ten around all latencies from a millisecond up, and the limits; in seconds."""
    limits = [slos.p99_steady_ms / 1000, slos.p99_during_ms / 1000]
    low = max(min([*latencies, 0.1]), 0.001)
    high = max([*latencies, *limits])
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) - 1e-9)


def _limits(axis: TimeAxis, slos: Slos, during: tuple[float, float] | None, low: float, high: float) -> str:
    """Draw the p99 limits as one line, which has another level while the service recovers."""
    steady = log_y(slos.p99_steady_ms / 1000, low, high, LATENCY)
    path = f"M{number(axis.left)} {number(steady)}"
    if during:
        raised = log_y(slos.p99_during_ms / 1000, low, high, LATENCY)
        path += f"H{number(axis.x(during[0]))}V{number(raised)}H{number(axis.x(during[1]))}V{number(steady)}"
    line = element("path", d=f"{path}H{number(axis.right)}", class_="limit")
    return line + text("p99 limit", axis.left + 4, steady - 4, "limit-text")
