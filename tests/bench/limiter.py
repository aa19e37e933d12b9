"""``make bench ARGS=limiter``: how strict the limiter is, for one key and for several at once.

Each shape has a stack of eight workers of its own. What is asked stands beside what was reached.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from tests.bench import several, strictness
from tests.bench.conditions import conditions
from tests.bench.figures import PREFIX, Figures
from tests.bench.several import Several
from tests.bench.strictness import UTILISATION, WORKERS, Strictness

Row = tuple[str, str, str, bool]  # what, what is asked, what was reached, and whether it is enough
SHAPES: Final = ("one", "several")
_MOST_DEFERRALS: Final = 2


@click.command()
@click.option("--backlog", default=5000, show_default=True, type=click.IntRange(200, 50_000))
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(40, 3600))
@click.option("--shape", "shapes", multiple=True, type=click.Choice(SHAPES), help="Only this one.")
@click.option("--quick", is_flag=True, help="One short run: does it work at all?")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all samples and the conditions to this file.",
)
def limiter(
    *, backlog: int, seconds: float, shapes: Sequence[str], quick: bool, file: Path | None
) -> None:
    """How strict the limiter is, judged by the provider's clock; about three minutes.

    ``--backlog`` is of the shape with one key, ``--seconds`` the length of the other one's.
    """
    console, found = Console(stderr=True), conditions({}, WORKERS)
    numbers: dict[str, float] = {}
    samples: dict[str, Any] = {}
    rows: list[Row] = []
    if "one" in (shapes or SHAPES):
        calls = 300 if quick else backlog
        with _folder() as folder, console.status(f"{WORKERS} workers, one key, {calls} calls"):
            one = strictness.measure(Path(folder), calls)
        rows += rows_of_one(one)
        numbers |= {
            "calls": one.calls, "max": one.maximum, "peak": one.peak,
            "utilisation_ratio": one.utilisation, "deferrals": one.deferrals,
            "idle_ratio": one.idle,
        }  # fmt: skip
    if "several" in (shapes or SHAPES):
        size = several.QUICK if quick else several.Size(seconds=seconds)
        words = f"{WORKERS} workers, several keys, {size.seconds:g} s, one worker killed"
        with _folder() as folder, console.status(words):
            many = several.measure(Path(folder), size)
        rows += rows_of_several(many)
        numbers |= numbers_of_several(many)
        samples["visits"] = many.visits
        samples["killed_at"] = many.killed_at
    Console().print(table(rows))
    Figures("limiter", numbers, found, samples).tell(file)
    sys.exit(0 if all(enough for *_, enough in rows) else 1)


def rows_of_one(found: Strictness) -> list[Row]:
    """What is asked of a single key, and what was reached."""
    return [
        _peak("one key", found.maximum, found.peak),
        _used("one key", found.utilisation),
        _deferred("one key", found.deferrals),
    ]


def rows_of_several(found: Several) -> list[Row]:
    """What is asked of several keys at once, and what was reached."""
    places = found.places
    rows = [
        row
        for key in found.keys
        for row in (
            _peak(key.name, key.maximum, key.peak),
            _used(key.name, key.utilisation),
            _lost(key.name, key.lost),
        )
    ]
    again = f"{places.after:.1f} of {places.before:.1f} calls/s ({places.again:.0%})"
    return [
        *rows,
        ("slow calls at a time", f"at most {places.at_once}", f"{places.most}",
         places.most <= places.at_once),
        (
            f"their rate again, after a worker with {places.held} of them was killed",
            f"at least {several.FULL_RATE:.0%}", again, places.again >= several.FULL_RATE,
        ),
        _deferred("several", found.deferrals),
    ]  # fmt: skip


def numbers_of_several(found: Several) -> dict[str, float]:
    """The figures of several keys at once, by name."""
    places = found.places
    numbers: dict[str, float] = {}
    for name, key in zip(("account", "endpoint"), found.keys, strict=True):
        numbers |= {
            f"{name}_max": key.maximum, f"{name}_peak": key.peak,
            f"{name}_utilisation_ratio": key.utilisation, f"{name}_lost_ratio": key.lost,
        }  # fmt: skip
    return numbers | {
        "places": places.at_once, "places_most": places.most, "places_lost": places.held,
        "before_per_s": places.before, "without_per_s": places.without,
        "after_per_s": places.after, "again_ratio": places.again,
        "several_deferrals": found.deferrals, "several_idle_ratio": found.idle,
    }  # fmt: skip


def table(rows: Sequence[Row]) -> Table:
    """What is asked beside what was reached; what was missed says so."""
    shown = Table(title="The limiter, by the provider's clock", title_justify="left")
    for name in ("what", "asked", "reached", ""):
        shown.add_column(name)
    for what, asked, reached, enough in rows:
        shown.add_row(what, asked, reached, "" if enough else "missed")
    return shown


def _peak(name: str, maximum: int, peak: int) -> Row:
    return f"{name}: units in the fullest second", f"at most {maximum}", f"{peak}", peak <= maximum


def _used(name: str, share: float) -> Row:
    asked = f"at least {UTILISATION:.0%}"
    return f"{name}: used under backlog", asked, f"{share:.1%}", share >= UTILISATION


def _lost(name: str, windows: float) -> Row:
    asked = f"at most {several.LOST:g}"
    return f"{name}: windows lost to the kill", asked, f"{windows:.2f}", windows <= several.LOST


def _deferred(name: str, most: int) -> Row:
    asked = f"at most {_MOST_DEFERRALS}"
    return f"{name}: deferrals of a step", asked, f"{most}", most <= _MOST_DEFERRALS


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=PREFIX)
