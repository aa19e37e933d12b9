"""What people do with a running orch8 from the command line, over its API."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from rich.console import Console
from rich.table import Table

from orch8.client.connected import Client
from orch8.client.instances import CONTROLS
from orch8.client.paths import path
from orch8.commands_reach import over_api, parse_json, read_json, tell
from orch8.errors import MalformedBody

WITH_PAYLOAD = 3  # words of a signal: the instance, the name, the payload


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@over_api
@click.option("--strict", is_flag=True, help="Refuse what may cost money: remarks are errors.")
def publish(file: Path, api: Client, as_json: bool, strict: bool) -> None:
    """Publish a sequence; the same body again is no new version."""
    at = "/sequences?strict=true" if strict else "/sequences"
    made = api.ask("POST", at, read_json(file), repeatable=True)
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"{made.get('name')} version {made.get('version')} ({made['id']})")
    for warning in made.get("warnings", ()):
        click.echo(f"  warning: {warning}", err=True)


@click.command()
@click.argument("sequence")
@click.option(
    "--body",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The request as a file.",
)
@click.option("--data", help='The context\'s data as JSON, such as {"amount_cents": 9900}.')
@click.option("--key", help="The idempotency key: the same key starts no second instance.")
@over_api
def start(
    sequence: str,
    body: Path | None,
    data: str | None,
    key: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Start an instance of a sequence."""
    request = read_json(body) if body else {}
    if not isinstance(request, dict):
        raise MalformedBody(f"{body}: the request must be a JSON object")
    if data is not None:
        request["context"] = {"data": parse_json(data, "--data")}
    if key is not None:
        request["idempotency_key"] = key
    # With a key, the request can be sent again if its answer is lost.
    request.setdefault("idempotency_key", str(uuid4()))
    made = api.ask("POST", path("sequences", sequence, "instances"), request, repeatable=True)
    seen = " (it was there before)" if made.get("deduplicated") else ""
    tell(made, f"{made['id']} {made.get('state', '')}{seen}", as_json=as_json)


@click.command()
@click.argument("instance")
@over_api
def show(instance: str, api: Client, as_json: bool) -> None:
    """Show an instance: its state and what happened, by whom and why."""
    found = api.ask("GET", path("instances", instance))
    entries = api.ask("GET", path("instances", instance, "audit"))
    entries = entries.get("items", entries) if isinstance(entries, dict) else entries
    if as_json:
        click.echo(json.dumps({"instance": found, "audit": entries}))
        return
    next_at = f", next at {found['next_fire_at']}" if found.get("next_fire_at") else ""
    click.echo(f"{found['id']} {found['state']}{next_at}")
    if found.get("attention"):
        click.echo(f"needs attention: {found['attention']}")
    table = Table("when", "who", "what", "step", "why", box=None)
    for entry in sorted(entries, key=_moment):
        table.add_row(
            str(entry.get("at", "")), str(entry.get("actor", "")), str(entry.get("action", "")),
            str(entry.get("node_key") or ""), str(entry.get("reason") or ""),
        )  # fmt: skip
    Console(markup=False, emoji=False).print(table)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[INSTANCE] NAME [PAYLOAD]")
@click.option(
    "--correlate",
    multiple=True,
    metavar="NAME=VALUE",
    help="Instead of an instance: every open one that has this; all of them if given repeatedly.",
)
@click.option("--payload", help="JSON; it may stand behind the name, too.")
@click.option("--reason", help="Why; it stands in the audit log.")
@click.option("--dedupe-key", help="Sent again with the same key, it does nothing.")
@over_api
def signal(
    words: tuple[str, ...],
    correlate: tuple[str, ...],
    payload: str | None,
    reason: str | None,
    dedupe_key: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Send a signal: pause, resume, cancel, update_context, or a name of your own."""
    if not correlate and payload is None and len(words) == WITH_PAYLOAD:
        words, payload = words[:-1], words[-1]
    if len(words) != (1 if correlate else 2):
        raise click.UsageError("give an instance and the signal's name; with --correlate, the name")
    name = words[-1].removeprefix("custom:")  # as clients of the contract spell it
    body: dict[str, Any] = {
        "payload": parse_json(payload or "null", "--payload"), "reason": reason,
        "dedupe_key": dedupe_key or str(uuid4()),  # it may be sent again if the answer is lost
    }  # fmt: skip
    if not correlate:
        body["signal_type"] = name if name in CONTROLS else {"custom": name}
        at = path("instances", words[0], "signals")
        sent = api.ask("POST", at, body, repeatable=True)
        click.echo(json.dumps(sent) if as_json else f"sent {sent['signal_id']}")
        return
    body |= {"signal": name, "correlate": dict(map(_pair, correlate))}
    found = api.ask("POST", "/signals", body, repeatable=True)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['matched']} open instances match, {len(found['signals'])} have the signal")
    for each in found["signals"]:
        click.echo(f"  {each['instance_id']} {each['signal_id']}")


@click.command()
@click.option("--key", help="The idempotency key that the call was sent with.")
@click.option("--ref", help="The provider's own id of the charge.")
@click.option("--instance", help="With --step: the instance.")
@click.option("--step", help="With --instance: the node key.")
@click.option(
    "--outcome",
    required=True,
    type=click.Choice(("succeeded", "declined", "requires_action", "failed")),
    help="How the attempt ended; failed: surely without an effect.",
)
@click.option("--output", help="The step's output, JSON.")
@click.option("--event-id", help="The provider's id of the event: the same one is heard once.")
@over_api
def evidence(
    key: str | None,
    ref: str | None,
    instance: str | None,
    step: str | None,
    outcome: str,
    output: str | None,
    event_id: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Tell how an attempt ended, as the provider says."""
    said = {
        "idempotency_key": key, "provider_ref": ref, "instance_id": instance, "step": step,
        "outcome": outcome, "event_id": event_id,
        "output": None if output is None else parse_json(output, "--output"),
    }  # fmt: skip
    body = {name: value for name, value in said.items() if value is not None}
    heard = api.ask("POST", "/attempts/evidence", body)
    told = f"{heard['state']}: {heard['node_key']} of {heard['instance_id']}"
    tell(heard, told, as_json=as_json)


@click.command()
@click.argument("instance")
@click.option("--reason", help="Why; it stands in the audit log.")
@over_api
def retry(
    instance: str,
    reason: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Let a failed instance go on where it failed; what completed is not called again."""
    body = {"reason": reason} if reason else {}
    done = api.ask("POST", path("instances", instance, "retry"), body)
    tell(done, f"{done['id']} {done['state']}", as_json=as_json)


def _moment(entry: dict[str, Any]) -> tuple[datetime, str]:
    """When it happened; of two at the same moment, the ids tell which came first."""
    return datetime.fromisoformat(entry["at"]), str(entry.get("id", ""))


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise click.UsageError(f"--correlate {text!r} must be NAME=VALUE, such as invoice_id=in_1")
    return name, value
