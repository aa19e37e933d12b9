"""The options with which a command reaches an orch8, as a client that the command is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from orch8.client.caller import Retries
from orch8.client.connected import LOCAL, Client
from orch8.errors import MalformedBody

# What a person waits for: an orch8 that is not there is told at once, a blink is not.
RETRIES: Final = Retries(most=2, first_pause=0.1, patience=10.0)

Command = Callable[..., None]


def over_api(command: Command) -> Command:
    """The command is given ``api``, a client, and ``as_json``. An option ``actor`` is not given to
    it: who that is stands in the audit log.
    """

    @wraps(command)
    def reached(*, url: str, api_key: str | None, tenant: str | None, **given: Any) -> None:
        actor = given.pop("actor", None) or "cli"
        with Client(url, api_key=api_key, tenant=tenant, actor=actor, retries=RETRIES) as api:
            command(api=api, **given)

    decorated: Command = reached
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The API's answer as it is."),
        click.option("--tenant", envvar="ORCH8_TENANT", help="Sent as X-Tenant-Id."),
        click.option("--api-key", envvar="ORCH8_API_KEY", help="Sent as x-api-key."),
        click.option(
            "--url", envvar="ORCH8_URL", default=LOCAL, show_default=True, help="The API."
        ),
    ):
        decorated = option(decorated)
    return decorated


def tell(said: Any, line: str, *, as_json: bool) -> None:
    """The API's answer, or the line for people, is on standard output."""
    click.echo(json.dumps(said) if as_json else line)


def refuse_options(ctx: click.Context) -> None:
    """Options of a list are none of its subcommands: one that was meant for those, such as the
    tenant, must not be dropped in silence.
    """
    for name in ctx.params:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in ctx.command.params if p.name == name)
            raise click.UsageError(f"put {option} behind {ctx.invoked_subcommand}")


def read_json(file: Path) -> Any:
    """The JSON in a file. MalformedBody names the file."""
    return parse_json(file.read_bytes(), str(file))


def parse_json(text: str | bytes, where: str) -> Any:
    """The JSON that a text spells. MalformedBody names where it came from."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise MalformedBody(f"{where} is not valid JSON: {error}") from None
