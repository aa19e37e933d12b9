"""The command line: the group that all commands hang from, and how an error ends one."""

from __future__ import annotations

import importlib.metadata
from datetime import timedelta
from typing import IO, Any

import click

from orch8.commands_attention import attention, fences
from orch8.commands_client import evidence, publish, retry, show, signal, start
from orch8.commands_config import config
from orch8.commands_dev import dev
from orch8.commands_limits import limits
from orch8.commands_vault import reseal
from orch8.config import Settings
from orch8.errors import ConfigurationError, Orch8Error, Problem


class _Failure(click.ClickException):
    """An error of ours, a line for it and one for each wrong member; exit code 2 if the operator
    can put it right.
    """

    def __init__(self, error: Orch8Error) -> None:
        super().__init__("\n".join((error.detail, *map(_line, error.errors))))
        self._operators = isinstance(error, ConfigurationError)

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The code that the process ends with."""
        return 2 if self._operators else 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to standard error."""
        click.echo(f"orch8: {self.format_message()}", file=file, err=file is None)


def _line(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"  {problem.pointer or '/'}: {problem.message}{hint}"


class _Commands(click.Group):
    """A group whose commands may raise any of our errors."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; one of our errors becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except Orch8Error as error:
            raise _Failure(error) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Durable workflows for payments: never charge twice, never lose a step."""


@main.command()
def migrate() -> None:
    """Bring the database up to date; safe to repeat, and to run while workers run."""
    settings = Settings.from_env()
    if not settings.database_url:
        raise ConfigurationError("ORCH8_DATABASE_URL is not set: which database?")
    from orch8.storage import migrate as storage  # noqa: PLC0415 - slow; other commands do without

    owner = settings.database_owner_url or settings.database_url
    storage.migrate(owner, settings.database_url)
    click.echo("The database is up to date.")


@main.command()
@click.option("--older-than", default="90d", show_default=True, help='A duration such as "90d".')
@click.option("--limit", type=click.IntRange(1), default=1_000_000, show_default=True)
def prune(older_than: str, limit: int) -> None:
    """Delete instances that ended long ago; the audit log and whatever is in doubt stay."""
    from orch8.engine.duration import parse_duration  # noqa: PLC0415
    from orch8.runtime.prune import prune as pruning  # noqa: PLC0415
    from orch8.storage.transaction import Database  # noqa: PLC0415

    settings = Settings.from_env()
    url = settings.database_owner_url or settings.database_url
    if not url:
        raise ConfigurationError("ORCH8_DATABASE_OWNER_URL is not set: which database?")
    try:
        age = timedelta(milliseconds=parse_duration(older_than).total_ms())
    except ValueError as error:
        raise ConfigurationError(f"--older-than: {error}") from None
    database = Database(url, size=1, name="orch8-prune")
    with click.progressbar(length=limit, label="pruned", show_percent=False, show_pos=True) as bar:
        gone = pruning(
            database, age, progress=lambda total: bar.update(total - bar.pos), limit=limit
        )
    database.close()
    click.echo(f"{gone} instances are gone.")


@main.command()
def version() -> None:
    """Print the version of orch8."""
    click.echo(importlib.metadata.version("orch8"))


@main.group(hidden=True)
def instance() -> None:
    """What clients of the contract write before ``retry``."""


instance.add_command(retry)
for command in (
    config, dev, publish, start, show, signal, evidence, retry, attention, fences, limits, reseal,
):  # fmt: skip
    main.add_command(command)

if __name__ == "__main__":
    main()
