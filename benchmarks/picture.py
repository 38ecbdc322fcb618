"""The figures as an SVG picture: a panel for each prompt length, a group of bars for each number of clients. No library is used."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.figures import CONTESTANTS, Row

WIDTH, LEFT, RIGHT = 900.0, 56.0, 16.0
TOP, PLOT, FOOT = 64.0, 210.0, 40.0
"""Space above the first panel, height of a panel's bars, and space below them for the axis."""
NAME = 26.0
GAP = 28.0
"""Space between two groups of bars."""

STYLE = (
    ".lw{--ink:#18273d;--soft:#5c6b80;--faint:#dde3ea;--bg:#fff;--ours:#1f7a9c;--one:#c8371b;--ts:#a86a00;--bare:#7fb6cb}"
    "@media (prefers-color-scheme:dark){.lw{--ink:#e8edf4;--soft:#9aa9bd;--faint:#2c3a4d;--bg:#101823;"
    "--ours:#5bb8d9;--one:#ff7a59;--ts:#f0b44a;--bare:#2f6c85}}"
    '.lw text{font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--soft)}'
    ".lw .head{font-size:15px;font-weight:700;fill:var(--ink)}.lw .name{font-weight:600;fill:var(--ink)}"
    ".lw .value{font-size:10px;fill:var(--ink)}.lw .grid{stroke:var(--faint)}.lw .axis{stroke:var(--soft)}.lw .page{fill:var(--bg)}"
    ".lw .ours{fill:var(--ours)}.lw .one_at_a_time{fill:var(--one)}.lw .transformers_serve{fill:var(--ts)}"
    ".lw .bare_engine{fill:var(--bare)}"
)


def draw(rows: Sequence[Row]) -> str:
    """Return the picture as SVG."""
    lengths = list(dict.fromkeys(row.cell.prompt_tokens for row in rows))
    highest = max(row.rate(name) for row in rows for name in CONTESTANTS) * 1.08
    panels = [_panel([row for row in rows if row.cell.prompt_tokens == tokens], highest) for tokens in lengths]
    placed = [f'<g transform="translate(0 {TOP + n * (NAME + PLOT + FOOT):.0f})">{panel}</g>' for n, panel in enumerate(panels)]
    height = TOP + len(panels) * (NAME + PLOT + FOOT)
    title = "Tokens a second, all clients together"
    head = _text(title, LEFT, 24, "head") + _legend()
    described = "; ".join(_described(row) for row in rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lw" role="img" viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" '
        f'height="{height:.0f}"><title>{title}</title><desc>{escape(described)}</desc><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>{head}{"".join(placed)}</svg>\n'
    )


def _described(row: Row) -> str:
    rates = ", ".join(f"{name} {row.rate(key):.0f}" for key, name in CONTESTANTS.items())
    return f"{row.cell.clients} clients, prompts of {row.cell.prompt_tokens} tokens: {rates}"


def _legend() -> str:
    parts, x = [], LEFT
    for key, name in CONTESTANTS.items():
        parts.append(f'<rect class="{key}" x="{x:.0f}" y="39" width="11" height="11" rx="2"/>{_text(name, x + 16, 49)}')
        x += 40 + 6.4 * len(name)
    return "".join(parts)


def _panel(rows: Sequence[Row], highest: float) -> str:
    group = (WIDTH - LEFT - RIGHT) / len(rows)
    bars = "".join(_group(row, LEFT + n * group, group, highest) for n, row in enumerate(rows))
    name = _text(f"prompts of {rows[0].cell.prompt_tokens} tokens", LEFT, 12, "name")
    bottom = NAME + PLOT
    axis = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    return name + _grid(highest) + bars + axis


def _grid(highest: float) -> str:
    step = next(step for base in (1, 10, 100, 1000, 10_000) for step in (base, 2 * base, 5 * base) if highest / step <= 6)
    lines = []
    for value in range(0, int(highest) + 1, step):
        y = NAME + PLOT * (1 - value / highest)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(str(value), LEFT - 7, y + 4, anchor="end"))
    return "".join(lines)


def _group(row: Row, x: float, width: float, highest: float) -> str:
    each = (width - GAP) / len(CONTESTANTS)
    parts = []
    for n, key in enumerate(CONTESTANTS):
        rate, left = row.rate(key), x + GAP / 2 + n * each
        height = PLOT * rate / highest
        y = NAME + PLOT - height
        parts.append(f'<rect class="{key}" x="{left + 2:.1f}" y="{y:.1f}" width="{each - 4:.1f}" height="{height:.1f}" rx="2"/>')
        parts.append(_text(f"{rate:.0f}", left + each / 2, y - 4, "value", "middle"))
    clients = f"{row.cell.clients} client{'s' * (row.cell.clients > 1)}"
    return "".join(parts) + _text(clients, x + width / 2, NAME + PLOT + 18, anchor="middle")


def _text(content: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{class_}" text-anchor="{anchor}">{escape(content)}</text>'
