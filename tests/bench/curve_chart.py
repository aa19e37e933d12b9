"""Draws a curve as an SVG: what a step costs above, steps per second below."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from tests.support import svg

WIDTH, HEIGHT = 720, 520
_LEFT, _RIGHT, _PANEL, _TALL = 70, 110, 240, 160
_WORKER, _POSTGRES, _RATE = "#2f6fed", "#d97706", "#059669"


class Place(Protocol):
    """A point of a curve, as tests.bench.curves.Point is one."""

    @property
    def x(self) -> int: ...
    @property
    def steps_per_s(self) -> float: ...
    @property
    def worker_us(self) -> float: ...
    @property
    def postgres_us(self) -> float: ...


Line = tuple[str, str, Callable[[Place], float]]  # its name, its colour, its values
_COSTS: Final[Sequence[Line]] = (
    ("workers", _WORKER, lambda point: point.worker_us),
    ("Postgres", _POSTGRES, lambda point: point.postgres_us),
)
_RATES: Final[Sequence[Line]] = (("steps/s", _RATE, lambda point: point.steps_per_s),)


def draw(title: str, points: Sequence[Place], conditions: Mapping[str, Any]) -> str:
    """The picture's text. The points stand at the same distances, whatever their x."""
    body = [
        *_panel("CPU microseconds per step", _COSTS, points, 0),
        *_panel("Steps per second", _RATES, points, _PANEL),
        svg.text(WIDTH / 2, HEIGHT - 30, title, anchor="middle"),
        svg.text(16, HEIGHT - 8, _told(conditions), size=10),
    ]
    return svg.picture(WIDTH, HEIGHT, f"Cost of a step against: {title}", body)


def _panel(title: str, lines: Sequence[Line], points: Sequence[Place], y: int) -> list[str]:
    highest = max(value(point) for _, _, value in lines for point in points)
    step = svg.step_between(highest)
    top = step * max(math.ceil(highest / step), 1)
    bottom = y + 40 + _TALL
    drawn = [svg.text(16, y + 22, title, size=14, weight=600)]
    for mark in range(0, top + 1, step):
        at = bottom - _TALL * mark / top
        drawn.append(
            f"<path d='M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}' stroke='{svg.LINE}' stroke-width='0.6'/>"
        )
        drawn.append(svg.text(_LEFT - 8, at + 4, f"{mark:,}", size=10, anchor="end"))
    places = [_across(number, len(points)) for number in range(len(points))]
    for across, point in zip(places, points, strict=True):
        drawn.append(svg.text(across, bottom + 16, f"{point.x:,}", size=10, anchor="middle"))
    for name, ink, value in lines:
        heights = [bottom - _TALL * value(point) / top for point in points]
        drawn += _line(name, ink, list(zip(places, heights, strict=True)))
    return drawn


def _line(name: str, ink: str, at: Sequence[tuple[float, float]]) -> list[str]:
    way = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    dots = [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{ink}'/>" for x, y in at]
    last_x, last_y = at[-1]
    return [
        f"<path d='M{way}' fill='none' stroke='{ink}' stroke-width='2'/>",
        *dots,
        svg.text(last_x + 8, last_y + 4, name, ink=ink, weight=600),
    ]


def _across(number: int, of: int) -> float:
    room = WIDTH - _LEFT - _RIGHT
    return _LEFT + 20 + number * (room - 40) / max(of - 1, 1)


def _told(found: Mapping[str, Any]) -> str:
    return (
        f"{found['cores']} cores of {found['cpu']}, everything on them, load before "
        f"{found['load_before']:.1f}; Postgres {found['postgres']}, fsync on; {found['at'][:10]}."
    )
