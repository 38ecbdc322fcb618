"""Conversion of seconds, counts and latencies to coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEFT, RIGHT = 92.0, 18.0


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis of the picture: seconds since the fault, from left to right."""

    start: float
    end: float
    width: float = 1080.0
    """Width of the whole picture, margins included."""

    @property
    def left(self) -> float:
        """The x coordinate where the axis begins."""
        return LEFT

    @property
    def right(self) -> float:
        """The x coordinate where the axis ends."""
        return self.width - RIGHT

    @property
    def span(self) -> float:
        """Number of seconds that the axis shows."""
        return self.end - self.start

    def x(self, t: float) -> float:
        """Return the x coordinate of a moment; one outside the axis is put on its edge."""
        share = (min(max(t, self.start), self.end) - self.start) / self.span
        return self.left + share * (self.right - self.left)

    def shows(self, t: float) -> bool:
        """Return whether the moment is on the axis."""
        return self.start <= t <= self.end

    def ticks(self) -> list[tuple[float, str]]:
        """Return round moments with their labels, in seconds or, on a long axis, in minutes."""
        in_minutes = self.span > 600
        step = nice_step(self.span / 60, 12) * 60 if in_minutes else nice_step(self.span, 12)
        first = math.ceil(self.start / step)
        moments = [n * step for n in range(first, math.floor(self.end / step) + 1)]
        return [(t, f"{t / 60:g} min" if in_minutes else f"{t:g}") for t in moments]


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5 × 10ⁿ that divides the span into at most so many parts."""
    raw = span / most
    base = 10.0 ** math.floor(math.log10(raw))
    return next(base * factor for factor in (1, 2, 5, 10) if base * factor >= raw * (1 - 1e-9))


def bin_width(span: float) -> float:
    """Return the seconds per bar: one if possible, with never more than about 200 bars."""
    return max(1.0, nice_step(span, 200))


def log_y(value: float, low: float, high: float, height: float) -> float:
    """Return the y coordinate of a value on a logarithmic axis that grows upwards; values outside are put on its edges."""
    clamped = min(max(value, low), high)
    return height * (1 - math.log(clamped / low) / math.log(high / low))
