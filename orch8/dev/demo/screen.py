"""What the demo looks like: numbered steps, commands, timelines, the table and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from orch8.dev.demo.book import Count, Moment

PLAIN_WIDTH: Final = 120  # columns where nobody sees a terminal: a log, a pipe
DAY: Final = timedelta(days=1)


class Screen:
    """Prints to a terminal with colours and motion, to anything else as plain text."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH
        self._step = 0

    def title(self, text: str, subtitle: str) -> None:
        """The name of the show."""
        self._console.print()
        self._console.print(Text(text, style="bold"))
        self._console.print(Text(subtitle, style="dim"))

    def step(self, text: str) -> None:
        """The next numbered step begins."""
        self._step += 1
        self._console.print()
        self._console.print(Text.assemble((f"{self._step}  ", "bold cyan"), (text, "bold")))

    def command(self, line: str) -> None:
        """A command as a person would type it, unbroken, to be copied."""
        self._console.print(Text(f"   $ {line}", style="cyan"), soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """A line about what happened."""
        self._console.print(Text(f"   {text}", style=style), soft_wrap=True)

    def event(self, text: str) -> None:
        """A process ended or started."""
        self.say(f"- {text}", "dim")

    def problem(self, text: str) -> None:
        """The show cannot go on."""
        self._console.print()
        self._console.print(Text(f"STOPPED: {text}", style="bold red"), soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A sign of life for as long as the block takes."""
        if not self._console.is_terminal:
            self.say(f"{text} ...")
            yield
            return
        with self._console.status(Text(f"{text} ...")):
            yield

    @contextmanager
    def days(self, total: int) -> Iterator[Callable[[float], None]]:
        """A bar that fills as days pass; call it with how many have."""
        if not self._console.is_terminal:
            self.say("days pass ...")
            yield lambda _day: None
            return
        columns = (TextColumn("   {task.description}"), BarColumn(total))
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("", total=total)

            def show(day: float) -> None:
                progress.update(task, completed=day, description=f"day {day:2.0f} of {total}")

            yield show

    def timeline(self, moments: Iterable[Moment]) -> None:
        """What happened to an instance, in order."""
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("who", no_wrap=True)
        table.add_column("what", no_wrap=True)
        table.add_column("step", no_wrap=True)
        table.add_column("why", overflow="fold")
        for each in sorted(moments, key=lambda moment: moment.after):
            cells = (_since(each.after), each.who, each.what, each.step, each.why)
            table.add_row(*map(Text, cells), style="yellow" if each.mark else None)
        self._console.print(table)

    def counts(self, rows: Sequence[Count]) -> None:
        """The sums that matter."""
        table = Table(box=box.SIMPLE_HEAD, show_footer=True)
        table.add_column("payment", "all")
        for name in ("asked", "made", "declined", "duplicates", "lost"):
            total = sum(int(getattr(row, name)) for row in rows)
            wrong = name in {"duplicates", "lost"} and total > 0
            style = "bold red" if wrong else "bold"
            header = f"charges {name}" if name in {"asked", "made"} else name
            table.add_column(header, Text(str(total), style=style), justify="right")
        for row in rows:
            numbers = (row.asked, row.made, row.declined, row.duplicates, row.lost)
            table.add_row(row.payment, *map(str, numbers))
        self._console.print(table)

    def verdict(self, wrong: Sequence[str], took: float) -> None:
        """The end: green if nothing is wrong, else red with everything that is."""
        if wrong:
            text = "\n".join(["FAILED: the promise was broken.", *(f"- {line}" for line in wrong)])
        else:
            text = (
                "PASSED: every payment was charged at most once, and none was lost.\n"
                f"It took {took:.0f} seconds."
            )
        style = "bold red" if wrong else "bold green"
        if self._console.is_terminal:
            self._console.print(Panel(Text(text), style=style, expand=False))
        else:
            self._console.print(Text(text))


def _since(after: timedelta) -> str:
    if after >= DAY:
        return f"day {round(after / DAY)}"
    return f"+{after.total_seconds():.2f} s"
