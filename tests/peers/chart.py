"""Draws the results as an SVG: a bar for each engine and workload, on a logarithmic scale.

Written by hand, so that a picture needs no library; its colours can be read on light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tests.peers.report import TITLES

WIDTH, LEFT, RIGHT = 860, 250, 90
ROW, BAR, HEAD, GAP = 26, 16, 62, 26
_OURS, _PEERS, _INK, _LINE = "#2f6fed", "#8a94a6", "#6b7280", "#d1d5db"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, sans-serif'"


def draw(results: Mapping[str, Any]) -> str:
    """The picture's text."""
    engines: Sequence[Mapping[str, Any]] = results["engines"]
    highest = max((_rate(e, kind) or 1 for e in engines for kind in TITLES), default=1)
    top = math.ceil(math.log10(max(highest, 10)))
    panel = HEAD + ROW * len(engines) + GAP
    height = panel * len(TITLES) + 34
    body = [
        line
        for number, (kind, title) in enumerate(TITLES.items())
        for line in _panel(engines, kind, title, number * panel, top)
    ]
    body.append(_text(16, height - 12, _conditions(results["conditions"]), size=11))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' {_FONT} "
        f"role='img' aria-label='Durable steps per second of orch8 and its peers'>\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _panel(
    engines: Sequence[Mapping[str, Any]], kind: str, title: str, y: int, top: int
) -> list[str]:
    lines = [_text(16, y + 24, f"Steps per second: {title}", size=14, weight=600)]
    bottom = y + HEAD + ROW * len(engines)
    for power in range(top + 1):
        x = _place(10**power, top)
        lines.append(f"<path d='M{x:.1f} {y + 48}V{bottom}' stroke='{_LINE}' stroke-width='0.6'/>")
        lines.append(_text(x, y + 42, f"{10**power:,}", size=10, anchor="middle"))
    ranked = sorted(engines, key=lambda e: -(_rate(e, kind) or 0))
    for number, engine in enumerate(ranked):
        middle = y + HEAD + ROW * number
        lines += _row(engine, _rate(engine, kind), middle, top)
    return lines


def _row(engine: Mapping[str, Any], rate: float | None, y: int, top: int) -> list[str]:
    ours = engine["name"] == "orch8"
    weight = 600 if ours else 400
    name = _text(LEFT - 10, y + 12, f"{engine['title']}", anchor="end", weight=weight)
    if rate is None:
        return [name, _text(LEFT + 4, y + 12, "not measured", size=11)]
    end = _place(rate, top)
    bar = (
        f"<rect x='{LEFT}' y='{y}' width='{end - LEFT:.1f}' height='{BAR}' rx='2' "
        f"fill='{_OURS if ours else _PEERS}'/>"
    )
    return [name, bar, _text(end + 6, y + 12, _number(rate), weight=weight)]


def _place(value: float, top: int) -> float:
    share = math.log10(max(value, 1.0)) / top
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _rate(engine: Mapping[str, Any], kind: str) -> float | None:
    numbers = engine["numbers"][kind]
    return numbers["steps_per_s"] if numbers else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _conditions(found: Mapping[str, Any]) -> str:
    return (
        f"{found['cores']} cores of {found['cpu']}, everything on them; Postgres "
        f"{found['postgres']}, fsync on; Python {found['python']}; {found['at'][:10]}. "
        "Logarithmic scale."
    )


def _text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{_INK}'>{escape(words)}</text>"
    )
