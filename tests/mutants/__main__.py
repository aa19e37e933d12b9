"""``python -m tests.mutants``: seeds bugs in the money code and sees whether the tests notice."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence

import click

from tests.mutants.catalogue import BY_SUBJECT, MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.trial import End, Result, trial, unmutated, workshops
from tests.mutants.workshop import Run

MOST_AT_ONCE = 2  # each has a Postgres of its own


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Only mutants of this name; repeat it.")
@click.option("--list", "listed", is_flag=True, help="Say which mutants there are, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@click.option("--table", is_flag=True, help="The result as the Markdown table of the docs.")
@click.option("--jobs", default=MOST_AT_ONCE, type=click.IntRange(1, MOST_AT_ONCE))
@click.option("--skip-unmutated", is_flag=True, help="Take it that the tests pass as things are.")
def main(
    only: tuple[str, ...],
    listed: bool,
    as_json: bool,
    table: bool,
    jobs: int,
    skip_unmutated: bool,
) -> None:
    """Exit code 0: every mutant was killed. 1: one survived, is stale or broken. 2: the tests fail
    even without a bug.
    """
    mutants = _chosen(only)
    if listed:
        for mutant in mutants:
            click.echo(f"{mutant.name:45}{mutant.breaks}")
        return
    with workshops(min(jobs, len(mutants))) as shops:
        if not skip_unmutated:
            _check_unmutated(unmutated(shops[0], mutants))
        results = trial(shops, mutants, _tell)
    if as_json:
        click.echo(json.dumps([_as_json(result) for result in results], indent=2))
    if table:
        click.echo(as_table(results))
    ends = Counter(result.end for result in results)
    click.echo(", ".join(f"{ends[end]} {end}" for end in End if ends[end]), err=True)
    sys.exit(int(ends[End.KILLED] < len(results)))


def _chosen(only: Sequence[str]) -> list[Mutant]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise click.UsageError(f"no mutant is called {unknown[0]!r}; see --list")
    return [known[name] for name in only] if only else list(MUTANTS)


def _check_unmutated(run: Run) -> None:
    if run.broken is None and not run.failed:
        click.echo(f"without a bug: {run.passed} tests passed in {run.seconds:.0f} s", err=True)
        return
    for name, why in run.failed:
        click.echo(f"fails without a bug: {name}: {why}", err=True)
    if run.broken is not None:
        click.echo(f"without a bug the tests cannot run: {run.broken}", err=True)
    sys.exit(2)


def _tell(result: Result) -> None:
    by = result.by.rpartition("::")[2] if result.by else result.why
    click.echo(f"{result.end:9}{result.mutant.name:45}{result.seconds:5.1f} s  {by}", err=True)


def _as_json(result: Result) -> dict[str, object]:
    mutant = result.mutant
    return {
        "name": mutant.name, "breaks": mutant.breaks, "file": mutant.file, "end": result.end,
        "seconds": round(result.seconds, 1), "by": result.by, "why": result.why,
    }  # fmt: skip


def as_table(results: Sequence[Result]) -> str:
    """The results as Markdown, a table for each subject."""
    ended = {result.mutant.name: result for result in results}
    lines: list[str] = []
    for subject, mutants in BY_SUBJECT.items():
        rows = [ended[mutant.name] for mutant in mutants if mutant.name in ended]
        if not rows:
            continue
        lines += [f"### {subject}", "", "| Mutant | What goes wrong | Result | Killed by |"]
        lines.append("| --- | --- | --- | --- |")
        for row in rows:
            by = f"`{row.by.rpartition('::')[2]}`" if row.by else ""
            lines.append(f"| `{row.mutant.name}` | {row.mutant.breaks} | {row.end} | {by} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
