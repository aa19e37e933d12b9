"""Draws the results as an SVG: a bar for each engine and workload, all from zero on one scale.

Written by hand, so that a picture needs no library; its colours can be read on light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tests.peers.report import TITLES

WIDTH, LEFT, RIGHT = 860, 270, 80
ROW, BAR, HEAD, GAP = 26, 16, 62, 26
_OURS, _PEERS, _INK, _LINE = "#2f6fed", "#8a94a6", "#6b7280", "#d1d5db"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, sans-serif'"


def draw(results: Mapping[str, Any]) -> str:
    """The picture's text."""
    engines: Sequence[Mapping[str, Any]] = results["engines"]
    highest = max((_rate(e, kind) or 1 for e in engines for kind in TITLES), default=1)
    step = _step(highest)
    top = step * math.ceil(highest / step)
    panel = HEAD + ROW * len(engines) + GAP
    height = panel * len(TITLES) + 34
    body = [
        line
        for number, (kind, title) in enumerate(TITLES.items())
        for line in _panel(engines, kind, title, number * panel, step, top)
    ]
    body.append(_text(16, height - 12, _conditions(results["conditions"]), size=11))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' {_FONT} "
        f"role='img' aria-label='Durable steps per second of orch8 and its peers'>\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _panel(
    engines: Sequence[Mapping[str, Any]], kind: str, title: str, y: int, step: int, top: int
) -> list[str]:
    lines = [_text(16, y + 24, f"Steps per second: {title}", size=14, weight=600)]
    bottom = y + HEAD + ROW * len(engines)
    for mark in range(0, top + 1, step):
        x = _place(mark, top)
        lines.append(f"<path d='M{x:.1f} {y + 48}V{bottom}' stroke='{_LINE}' stroke-width='0.6'/>")
        lines.append(_text(x, y + 42, f"{mark:,}", size=10, anchor="middle"))
    ranked = sorted(engines, key=lambda e: -(_rate(e, kind) or 0))
    for number, engine in enumerate(ranked):
        middle = y + HEAD + ROW * number
        lines += _row(engine, _rate(engine, kind), middle, top)
    return lines


def _row(engine: Mapping[str, Any], rate: float | None, y: int, top: int) -> list[str]:
    ours = engine["name"] == "orch8"
    weight = 600 if ours else 400
    title = f"{engine['title']} {engine['version']}"
    name = _text(LEFT - 10, y + 12, title, anchor="end", weight=weight)
    if rate is None:
        return [name, _text(LEFT + 4, y + 12, "not measured", size=11)]
    end = _place(rate, top)
    bar = (
        f"<rect x='{LEFT}' y='{y}' width='{end - LEFT:.1f}' height='{BAR}' rx='2' "
        f"fill='{_OURS if ours else _PEERS}'/>"
    )
    return [name, bar, _text(end + 6, y + 12, _number(rate), weight=weight)]


def _place(value: float, top: int) -> float:
    return LEFT + value / top * (WIDTH - LEFT - RIGHT)


def _step(highest: float) -> int:
    """A round distance between marks that gives four to eight of them."""
    power = 10 ** math.floor(math.log10(max(highest, 10)))
    return int(
        next(step for step in (power // 5, power // 2, power, 2 * power) if highest <= 8 * step)
    )


def _rate(engine: Mapping[str, Any], kind: str) -> float | None:
    numbers = engine["numbers"][kind]
    return numbers["steps_per_s"] if numbers else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _conditions(found: Mapping[str, Any]) -> str:
    return (
        f"{found['cores']} cores of {found['cpu']}, everything on them; Postgres "
        f"{found['postgres']}, fsync on; Python {found['python']}; {found['at'][:10]}."
    )


def _text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{_INK}'>{escape(words)}</text>"
    )
