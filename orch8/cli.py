"""The command line: the group that all commands hang from, and how an error ends one."""

from __future__ import annotations

import importlib.metadata
from typing import IO, Any

import click

from orch8.commands_approvals import approvals, approve
from orch8.commands_attention import attention, fences
from orch8.commands_breakers import breakers
from orch8.commands_client import evidence, publish, retry, show, signal, start
from orch8.commands_config import config
from orch8.commands_detours import fork, inject, resume_from
from orch8.commands_dev import dev
from orch8.commands_limits import limits
from orch8.commands_prune import prune
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
def version() -> None:
    """Print the version of orch8."""
    click.echo(importlib.metadata.version("orch8"))


@main.group()
def instance() -> None:
    """Make one instance leave its course: retry, inject, resume-from, fork."""


for command in (retry, inject, resume_from, fork):
    instance.add_command(command)
for command in (
    config, dev, publish, start, show, signal, evidence, retry, approvals, approve, attention,
    fences, breakers, limits, prune, reseal,
):  # fmt: skip
    main.add_command(command)

if __name__ == "__main__":
    main()
