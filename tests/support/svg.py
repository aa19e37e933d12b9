"""SVG by hand, so that a picture needs no library; its colours can be read on light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Final

INK: Final = "#6b7280"
LINE: Final = "#d1d5db"
_FONT: Final = "font-family='system-ui, -apple-system, Segoe UI, sans-serif'"


def picture(width: int, height: int, label: str, body: Iterable[str]) -> str:
    """The text of a picture with these elements; ``label`` is for those who cannot see it."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {_FONT} "
        f"role='img' aria-label='{escape(label)}'>\n" + "\n".join(body) + "\n</svg>\n"
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 12,
    anchor: str = "start",
    weight: int = 400,
    ink: str = INK,
) -> str:
    """Words at a place."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{ink}'>{escape(words)}</text>"
    )


def step_between(highest: float) -> int:
    """A round distance between marks that gives four to eight of them, from zero to ``highest``."""
    power = 10 ** math.floor(math.log10(max(highest, 10)))
    return int(
        next(step for step in (power // 5, power // 2, power, 2 * power) if highest <= 8 * step)
    )
