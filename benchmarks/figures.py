"""Measured values, their medians and ratios, as JSON and as a table. Standard library only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONTESTANTS = {
    "ours": "ours",
    "one_at_a_time": "one at a time",
    "transformers_serve": "transformers serve",
    "bare_engine": "bare engine",
}
"""Names of the contestants by their key in the JSON."""
STREAMED = "ours_streamed"
"""Key of our service with streamed answers; not part of the comparison, because the other contestants do not stream in it."""


@dataclass(frozen=True)
class Cell:
    """One combination of clients and prompt length in which all contestants are measured."""

    clients: int
    prompt_tokens: int


@dataclass(frozen=True)
class Row:
    """Tokens per second of each contestant in one cell, one value for each round, in the order of the rounds."""

    cell: Cell
    rates: Mapping[str, Sequence[float]]

    def rate(self, contestant: str) -> float:
        """Return the median over the rounds, in tokens per second."""
        return statistics.median(self.rates[contestant])

    def ratio(self, contestant: str, to: str) -> float:
        """Return the median of the rounds' ratios. Within a round, a slow phase of the machine affects both contestants."""
        pairs = zip(self.rates[contestant], self.rates[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def as_json(self) -> dict[str, float | int]:
        """Return clients, prompt tokens, and each contestant's rate."""
        rates = {name: round(self.rate(name), 2) for name in (*CONTESTANTS, STREAMED) if name in self.rates}
        return {"clients": self.cell.clients, "prompt_tokens": self.cell.prompt_tokens, **rates}


@dataclass(frozen=True)
class Spent:
    """Processor time of each process while our service was measured in one cell."""

    cell: Cell
    seconds: float
    """Duration of the measurement, all rounds together."""
    cpu_s: Mapping[str, float]
    """Processor seconds by process."""


def table(rows: Sequence[Row]) -> str:
    """Return the figures as a Markdown table: rates, then the ratios of ours to the others."""
    head = ["clients", "prompt", *(f"{name}, tokens/s" for name in CONTESTANTS.values())]
    head += ["ours to one at a time", "ours to transformers serve", "left of the bare engine", "ours streamed, tokens/s"]
    return _markdown(head, [_line(row) for row in rows])


def spent_table(spent: Sequence[Spent]) -> str:
    """Return a Markdown table of the cores that each process used on average."""
    names = sorted({name for one in spent for name in one.cpu_s}, key=lambda name: -sum(one.cpu_s.get(name, 0) for one in spent))
    shown = [name for name in names if any(one.cpu_s.get(name, 0) / one.seconds >= 0.005 for one in spent)]
    head = ["cores busy with", *(f"{one.cell.clients} × {one.cell.prompt_tokens}" for one in spent)]
    return _markdown(head, [[name, *(f"{one.cpu_s.get(name, 0) / one.seconds:.2f}" for one in spent)] for name in shown])


def _line(row: Row) -> list[str]:
    rates = [f"{row.rate(name):.1f}" for name in CONTESTANTS]
    times = [f"{row.ratio('ours', other):.1f} ×" for other in ("one_at_a_time", "transformers_serve")]
    left = f"{100 * row.ratio('ours', 'bare_engine'):.0f} %"
    return [str(row.cell.clients), f"{row.cell.prompt_tokens} tokens", *rates, *times, left, f"{row.rate(STREAMED):.1f}"]


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    padded = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in (head, *lines)]
    padded.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in padded)
