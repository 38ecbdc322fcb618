"""SVG elements as text, with short numbers and escaped texts."""

from __future__ import annotations

from html import escape


def number(value: float) -> str:
    """Return the number with at most two decimals and no trailing zeros: half the size of a picture is numbers."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def element(name: str, *children: str, **attributes: str | float) -> str:
    """Return an element; `class_` and `stroke_width` become class and stroke-width. The children are SVG already."""
    texts = {key: escape(value) if isinstance(value, str) else number(value) for key, value in attributes.items()}
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{value}"' for key, value in texts.items())
    return f"<{name}{given}>{''.join(children)}</{name}>" if children else f"<{name}{given}/>"


def text(content: str, x: float, y: float, class_: str = "", anchor: str = "start", **attributes: str | float) -> str:
    """Return a line of text, escaped."""
    return element("text", escape(content), x=x, y=y, class_=class_, text_anchor=anchor, **attributes)
