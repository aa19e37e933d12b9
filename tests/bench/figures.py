"""What the benches of one subject share: their road, and the figures that they leave behind.

Figures are a line for programs, and a file with all samples and conditions for those who ask.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson
from rich.console import Console

from tests.bench.conditions import conditions
from tests.bench.report import percentile
from tests.bench.road import Road

PREFIX: Final = "orch8-bench-"  # of the folder that a stack lives in
Say = Callable[[str], None]
Command = TypeVar("Command", bound=Callable[..., Any])
_DECIMALS = ("_ms", "_us", "_percent", "_min")  # the units that get one; a ratio gets three


@dataclass(frozen=True)
class Figures:
    """The figures of one measurement, the conditions that they hold under, and the samples."""

    name: str
    numbers: Mapping[str, float]
    conditions: Mapping[str, Any]
    samples: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """``name: key=value ...``."""
        shown = (f"{key}={_shown(key, value)}" for key, value in self.numbers.items())
        return f"{self.name}: {' '.join(shown)}"

    def tell(self, file: Path | None) -> None:
        """The line is printed, and everything written to the file, if there is one."""
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            found = {
                "name": self.name, "numbers": self.numbers, "conditions": self.conditions,
                "samples": self.samples,
            }  # fmt: skip
            file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        click.echo(self.line())


@contextmanager
def started(workers: int, settings: Mapping[str, str] | None = None) -> Iterator[tuple[Road, Say]]:
    """A road on which road.SEQUENCES are published, and where to say what is being done."""
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX) as folder,
        Console(stderr=True).status("starting a stack") as status,
    ):
        road = Road(Path(folder), workers=workers, settings=settings)
        with road.world:
            road.publish()
            yield road, status.update


def conditions_of(road: Road, **sizes: object) -> dict[str, Any]:
    """The conditions of a measurement on this road, with what it was told."""
    return conditions(road.world.stack.environ, road.workers) | {"sizes": sizes}


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the highest of values in milliseconds."""
    ascending = sorted(values)
    return {
        f"{name}_p50_ms": percentile(ascending, 50),
        f"{name}_p99_ms": percentile(ascending, 99),
        f"{name}_max_ms": ascending[-1],
    }


def common(command: Command) -> Command:
    """The options that all benches have: --json, --quick, --workers."""
    for option in (
        click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16)),
        click.option("--quick", is_flag=True, help="One small run: does it work at all?"),
        click.option(
            "--json",
            "file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write all samples and the conditions to this file.",
        ),
    ):
        command = option(command)
    return command


def _shown(key: str, value: float) -> str:
    if key.endswith(("ratio", "commits_per_step")):
        return f"{value:.3f}"
    return f"{value:.1f}" if key.endswith(_DECIMALS) else f"{value:.0f}"
