"""Colours and fonts of the pictures. Blue and vermilion can be distinguished with any colour vision; a failure always has a mark, too."""

from __future__ import annotations

LIGHT = (
    "--ink:#18273d;--soft:#5c6b80;--faint:#dde3ea;--bg:#ffffff;--panel:#f6f8fa;--ok:#1f7a9c;--ok-soft:#7fb6cb;"
    "--bad:#c8371b;--bad-soft:#f3c2b5;--mid:#fdf3dc;--amber:#a86a00"
)
DARK = (
    "--ink:#e8edf4;--soft:#9aa9bd;--faint:#2c3a4d;--bg:#101823;--panel:#172231;--ok:#5bb8d9;--ok-soft:#2f6c85;"
    "--bad:#ff7a59;--bad-soft:#6b2d1e;--mid:#2a2718;--amber:#f0b44a"
)

RULES = """
.lw text{font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--soft)}
.lw .halo{paint-order:stroke;stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}
.lw .name{font-weight:600;fill:var(--ink)}
.lw .head{font-size:15px;font-weight:700;fill:var(--ink)}
.lw .label{fill:var(--ink)}
.lw .label-bad{fill:var(--bad);font-weight:600}
.lw .label-fault{fill:var(--ink);font-weight:700}
.lw .tick{font-size:10.5px;font-variant-numeric:tabular-nums}
.lw .grid{stroke:var(--faint);stroke-width:1}
.lw .axis{stroke:var(--soft);stroke-width:1}
.lw .during{fill:var(--mid)}
.lw .mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3;opacity:.75}
.lw .mark-bad{stroke:var(--bad);stroke-width:1;stroke-dasharray:2 3}
.lw .mark-fault{stroke:var(--ink);stroke-width:2}
.lw .ok{fill:var(--ok)}
.lw .ok-soft{fill:var(--ok-soft)}
.lw .hollow{stroke:var(--ok);fill:var(--bg);stroke-width:1.8}
.lw .hollow-bad{stroke:var(--bad);fill:var(--bg);stroke-width:1.8}
.lw .ok-line{stroke:var(--ok);fill:none}
.lw .gap-line{stroke:var(--ok-soft);fill:none}
.lw .dot{stroke:var(--ok);fill:none;stroke-linecap:round;opacity:.6}
.lw .bad{fill:var(--bad)}
.lw .bad-line{stroke:var(--bad);fill:none}
.lw .hang-line{stroke:var(--bad);fill:none;stroke-dasharray:2 3}
.lw .bad-mark{stroke:var(--bad);fill:none;stroke-width:1.6}
.lw .ring{stroke:var(--bad);fill:var(--bg);stroke-width:1.5}
.lw .limit{stroke:var(--amber);stroke-width:1.2;stroke-dasharray:6 4;fill:none}
.lw .limit-text{fill:var(--amber);font-size:10.5px}
.lw .pod{fill:var(--ok)}
.lw .pod-wait{fill:url(#lw-wait);stroke:var(--ok-soft);stroke-width:1}
.lw .pod-bad{fill:url(#lw-bad);stroke:var(--bad);stroke-width:1}
.lw .in-bar{fill:var(--bg);font-size:10px;font-weight:600}
.lw .page{fill:var(--bg)}
"""

PATTERNS = (
    '<defs><pattern id="lw-bad" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" style="fill:var(--bad)"/><rect width="2" height="6" style="fill:var(--bad-soft)"/></pattern>'
    '<pattern id="lw-wait" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect width="6" height="6" style="fill:var(--bg)"/><rect width="2" height="6" style="fill:var(--ok-soft)"/></pattern></defs>'
)


def sheet() -> str:
    """Return the style of a picture that stands alone: light, or dark where the browser asks for it."""
    return f".lw{{{LIGHT}}}@media (prefers-color-scheme:dark){{.lw{{{DARK}}}}}{RULES}"
