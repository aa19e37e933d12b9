"""``python -m tests.peers``: orch8 and its peers on the same workloads, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import orjson
from rich.console import Console

import orch8
from tests.bench.conditions import conditions
from tests.peers import chart, report
from tests.peers.bed import Bed
from tests.peers.contender import Contender, PeerSession
from tests.peers.environment import Unavailable, python_of
from tests.peers.itself import WORKERS, Itself
from tests.peers.peers import PEERS
from tests.peers.programs.step import STEPS
from tests.peers.report import Entry
from tests.peers.session import Session, Size

Make = Callable[[Bed], Contender]

_NAMES = ("orch8", *(peer.name for peer in PEERS))


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--workflows", default=3000, show_default=True, type=click.IntRange(10, 100_000))
@click.option("--seconds", default=5.0, show_default=True, help="Length of a backlog, about.")
@click.option(
    "--minutes", default=12.0, show_default=True, help="No round begins that would not fit."
)
@click.option("--only", multiple=True, type=click.Choice(_NAMES), help="Leave the others out.")
@click.option(
    "--results",
    "file",
    default=report.FILE,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the results are written, and the chart of them beside it.",
)
@click.option("--markdown", is_flag=True, help="Print the tables as they stand in the docs.")
@click.option("--again", is_flag=True, help="Show the results that are there; run nothing.")
def main(
    rounds: int,
    workflows: int,
    seconds: float,
    minutes: float,
    only: Sequence[str],
    file: Path,
    *,
    markdown: bool,
    again: bool,
) -> None:
    """Measure orch8 beside other engines; deploy/docs/peers.md says what each of them does."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=report.WIDTH)
    if again:
        if not file.exists():
            raise click.ClickException(f"there is no {file}; run `make bench-peers` first")
        results = orjson.loads(file.read_bytes())
    else:
        deadline = time.monotonic() + 60 * minutes
        entries = [entry for entry in _entries() if not only or entry.name in only]
        with tempfile.TemporaryDirectory(prefix="orch8-peers-") as folder:
            found = _run(Path(folder), entries, rounds, Size(seconds, workflows), deadline, console)
        results = report.write(file, found, entries)
    report.show(results, console)
    if markdown:
        click.echo(
            "\n".join(line for kind in report.TITLES for line in report.lines(results, kind))
        )
    picture = file.with_suffix(".svg")
    picture.write_text(chart.draw(results), encoding="utf-8")
    console.print(f"{picture} is drawn from {file}", highlight=False)


def _entries() -> list[Entry]:
    own = Entry("orch8", "orch8", orch8.__version__, f"{WORKERS} workers, API, control, beat")
    return [own, *(Entry(p.name, p.title, p.version, p.setting) for p in PEERS)]


def _run(
    folder: Path,
    entries: Sequence[Entry],
    rounds: int,
    size: Size,
    deadline: float,
    console: Console,
) -> Mapping[str, object]:
    makes: dict[str, Make] = {"orch8": Itself}
    with console.status("making the peers' environments") as status:
        for peer in PEERS:
            makes[peer.name] = lambda bed, peer=peer: PeerSession(peer, bed)
            if any(entry.name == peer.name for entry in entries):
                _prepare(peer.lock or peer.name)
        found = conditions({}, WORKERS) | {
            "workloads": dict(STEPS),
            "backlog_seconds": size.seconds,
            "most_workflows": size.most,
        }
        longest = 0.0
        with Bed(folder) as bed:
            for number in range(rounds):
                began = time.monotonic()
                if began + longest > deadline:
                    console.print(f"the time allows {number} of {rounds} rounds")
                    break
                # Each round begins with another engine, so that none always follows the same.
                turn = number % len(entries)
                for entry in (*entries[turn:], *entries[:turn]):
                    if time.monotonic() > deadline:
                        entry.trouble.append(f"the time was over in round {number + 1}")
                        continue
                    status.update(f"round {number + 1} of {rounds}: {entry.title}")
                    _session(makes[entry.name], bed, entry, size)
                longest = max(longest, time.monotonic() - began)
    return found


def _prepare(lock: str) -> None:
    """The environment exists, if it can; the session will say why it does not."""
    try:
        python_of(lock)
    except Unavailable:
        return


def _session(make: Make, bed: Bed, entry: Entry, size: Size) -> None:
    """The engine was measured once more, or what went wrong stands in its entry."""
    try:
        bed.settle()
        contender = make(bed)
        try:
            contender.start()
            session = Session(contender, bed)
            for kind in STEPS:
                entry.add(kind, session.measure(kind, size))
        finally:
            contender.stop()
    except Exception as trouble:  # noqa: BLE001 - whatever it is, the table says so
        words = " ".join(str(trouble).split()) or type(trouble).__name__
        if words not in entry.trouble:
            entry.trouble.append(words)


if __name__ == "__main__":
    main()
