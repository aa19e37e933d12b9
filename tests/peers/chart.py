"""Draws the results as an SVG: a bar for each engine and workload, all from zero on one scale.

Written by hand, so that a picture needs no library; its colours can be read on light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.peers.report import TITLES
from tests.support import svg

WIDTH, LEFT, RIGHT = 860, 270, 80
ROW, BAR, HEAD, GAP = 26, 16, 62, 26
_OURS, _PEERS = "#2f6fed", "#8a94a6"


def draw(results: Mapping[str, Any]) -> str:
    """The picture's text."""
    engines: Sequence[Mapping[str, Any]] = results["engines"]
    highest = max((_rate(e, kind) or 1 for e in engines for kind in TITLES), default=1)
    step = svg.step_between(highest)
    top = step * math.ceil(highest / step)
    panel = HEAD + ROW * len(engines) + GAP
    height = panel * len(TITLES) + 34
    body = [
        line
        for number, (kind, title) in enumerate(TITLES.items())
        for line in _panel(engines, kind, title, number * panel, step, top)
    ]
    body.append(svg.text(16, height - 12, _conditions(results["conditions"]), size=11))
    return svg.picture(WIDTH, height, "Durable steps per second of orch8 and its peers", body)


def _panel(
    engines: Sequence[Mapping[str, Any]], kind: str, title: str, y: int, step: int, top: int
) -> list[str]:
    lines = [svg.text(16, y + 24, f"Steps per second: {title}", size=14, weight=600)]
    bottom = y + HEAD + ROW * len(engines)
    for mark in range(0, top + 1, step):
        x = _place(mark, top)
        lines.append(
            f"<path d='M{x:.1f} {y + 48}V{bottom}' stroke='{svg.LINE}' stroke-width='0.6'/>"
        )
        lines.append(svg.text(x, y + 42, f"{mark:,}", size=10, anchor="middle"))
    ranked = sorted(engines, key=lambda e: -(_rate(e, kind) or 0))
    for number, engine in enumerate(ranked):
        middle = y + HEAD + ROW * number
        lines += _row(engine, _rate(engine, kind), middle, top)
    return lines


def _row(engine: Mapping[str, Any], rate: float | None, y: int, top: int) -> list[str]:
    ours = engine["name"] == "orch8"
    weight = 600 if ours else 400
    title = f"{engine['title']} {engine['version']}"
    name = svg.text(LEFT - 10, y + 12, title, anchor="end", weight=weight)
    if rate is None:
        return [name, svg.text(LEFT + 4, y + 12, "not measured", size=11)]
    end = _place(rate, top)
    bar = (
        f"<rect x='{LEFT}' y='{y}' width='{end - LEFT:.1f}' height='{BAR}' rx='2' "
        f"fill='{_OURS if ours else _PEERS}'/>"
    )
    return [name, bar, svg.text(end + 6, y + 12, _number(rate), weight=weight)]


def _place(value: float, top: int) -> float:
    return LEFT + value / top * (WIDTH - LEFT - RIGHT)


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
