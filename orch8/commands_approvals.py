"""``orch8 approvals`` and ``orch8 approve``: what people are asked, and their answers."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from orch8.client.connected import Client
from orch8.commands_reach import over_api, tell

NOTHING = "Nobody is waited for."


@click.command()
@click.option("--namespace")
@click.option("--instance", help="Only those of this instance.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to leave out.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@over_api
def approvals(
    namespace: str | None, instance: str | None, offset: int, limit: int, api: Client,
    as_json: bool,
) -> None:  # fmt: skip
    """List the steps that wait for a person's answer, the longest asked first."""
    found = api.approvals.list(
        namespace=namespace, instance_id=instance, offset=offset, limit=limit
    )
    if as_json:
        click.echo(json.dumps([each.raw for each in found]))
        return
    if not found:
        click.echo(NOTHING)
        return
    table = Table("since", "until", "instance", "step", "asked", "answers", box=None)
    for each in found:
        table.add_row(
            str(each.waiting_since), str(each.deadline or ""), each.instance_id, each.node_key,
            each.prompt or each.sequence_name,
            ", ".join(choice["value"] for choice in each.choices),
        )  # fmt: skip
    Console(markup=False, emoji=False).print(table)


@click.command()
@click.argument("instance")
@click.argument("block")
@click.argument("value")
@click.option("--comment", help="Why; it stands in the audit log.")
@click.option(
    "--as", "actor", envvar="ORCH8_ACTOR", required=True, help="Who you are, for the audit log."
)
@over_api
def approve(
    instance: str, block: str, value: str, comment: str | None, api: Client, as_json: bool
) -> None:
    """Answer for a step that waits, with the VALUE of one of its choices."""
    sent = api.approvals.answer(instance, block, value, comment=comment)
    tell(sent.raw, f"{block}: {value}", as_json=as_json)
