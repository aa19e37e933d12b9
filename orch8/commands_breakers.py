"""``orch8 breakers``: which handlers are left alone since they fail, and calling them again."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from orch8.client.connected import Client
from orch8.client.paths import path
from orch8.commands_attention import _print
from orch8.commands_reach import over_api, refuse_options, tell

NOTHING: Final = "No handler was called yet."


@click.group(invoke_without_command=True)
@over_api
@click.pass_context
def breakers(ctx: click.Context, api: Client, as_json: bool) -> None:
    """List the circuit breakers of handlers, those that are not closed first."""
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return
    found = api.ask("GET", "/circuit-breakers")
    if as_json:
        click.echo(json.dumps(found))
    elif not found:
        click.echo(NOTHING)
    else:
        found.sort(key=lambda each: (each["state"] == "closed", each["tenant_id"], each["handler"]))
        _print(("tenant", "handler", "state", "failures in a row", "open since", "next call"),
               map(_row, found))  # fmt: skip


@breakers.command()
@click.argument("handler")
@click.option(
    "--as", "actor", envvar="ORCH8_ACTOR", default="cli", help="Who you are, for the audit log."
)
@over_api
def reset(handler: str, api: Client, as_json: bool) -> None:
    """Close the breaker of a handler: what waits for it goes on at once."""
    done = api.ask("POST", path("circuit-breakers", handler, "reset"), repeatable=True)
    tell(done, f"{handler}: {done['state']}", as_json=as_json)


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    return (
        each["tenant_id"], each["handler"], each["state"],
        f"{each['failure_count']} of {each['failure_threshold']}",
        each.get("opened_at", ""), each.get("retry_at", ""),
    )  # fmt: skip
