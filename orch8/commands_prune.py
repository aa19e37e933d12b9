"""``orch8 prune``: what ended long ago is gone, by whole months where possible."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orch8.config import Settings
from orch8.errors import ConfigurationError

if TYPE_CHECKING:
    from orch8.runtime.prune import Fate
    from orch8.storage.transaction import Database


@click.command()
@click.option("--older-than", default="90d", show_default=True, help='A duration such as "90d".')
@click.option(
    "--limit", type=click.IntRange(1), default=1_000_000, show_default=True,
    help="Instances to delete row by row, where their month cannot go.",
)  # fmt: skip
@click.option("--keep-detached", is_flag=True, help="Detach months, but leave their tables.")
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would become of it.")
@click.option("--json", "as_json", is_flag=True, help="Tell it as one JSON object.")
def prune(older_than: str, limit: int, keep_detached: bool, dry_run: bool, as_json: bool) -> None:
    """Delete what ended long ago; the audit log, and whatever is in doubt, stay.

    A month in which everything ended long enough ago goes as a whole. In the others ended
    instances are deleted row by row. What holds a month back is told with its number.
    """
    from orch8.runtime.prune import prune as pruning  # noqa: PLC0415 - slow; see cli.migrate
    from orch8.runtime.prune import prune_months  # noqa: PLC0415
    from orch8.storage import partitions, retention  # noqa: PLC0415

    age = _age(older_than)
    owner = _owner()
    try:
        fates = prune_months(owner, age, keep=keep_detached, trial=dry_run)
        if not as_json:
            for fate in fates:
                click.echo(_line(fate))
        if dry_run:
            with owner.begin() as tx:
                gone = retention.count_ended(tx, age, min(limit, 10_000))
        else:
            gone = pruning(owner, age, progress=_nobody if as_json else _progress, limit=limit)
        with owner.begin() as tx:
            strays = partitions.strays(tx)
    finally:
        owner.close()
    if as_json:
        click.echo(json.dumps(_told(fates, gone, strays, dry_run=dry_run)))
        return
    if strays:
        click.echo(f"{strays} instances are in no month: a clock is wrong, or was.", err=True)
    would_be = "would be" if dry_run else "are"
    click.echo(f"{gone} instances {would_be} gone.")


def _age(older_than: str) -> timedelta:
    from orch8.engine.duration import parse_duration  # noqa: PLC0415

    try:
        return timedelta(milliseconds=parse_duration(older_than).total_ms())
    except ValueError as error:
        raise ConfigurationError(f"--older-than: {error}") from None


def _owner() -> Database:
    from orch8.storage.transaction import Database  # noqa: PLC0415

    settings = Settings.from_env()
    url = settings.database_owner_url or settings.database_url
    if not url:
        raise ConfigurationError("ORCH8_DATABASE_OWNER_URL is not set: which database?")
    return Database(url, size=1, name="orch8-prune")


def _progress(total: int) -> None:
    click.echo(f"{total} instances deleted", err=True)


def _nobody(_: int) -> None:
    """JSON is all that is told."""


def _line(fate: Fate) -> str:
    by = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in fate.by.items())
    reason = f" back by {by}" if by else ""
    return f"{fate.month}: {fate.fate}{reason} (about {fate.instances} instances)"


def _told(fates: list[Fate], gone: int, strays: int, *, dry_run: bool) -> dict[str, object]:
    months = [
        {"month": str(f.month), "fate": f.fate, "instances": f.instances, "held_back_by": f.by}
        for f in fates
    ]
    return {"months": months, "instances": gone, "strays": strays, "dry_run": dry_run}
