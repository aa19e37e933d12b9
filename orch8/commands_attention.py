"""``orch8 attention`` and ``orch8 fences``: what needs a person, and what a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import click
from rich.console import Console
from rich.table import Table

from orch8.client.connected import Client
from orch8.client.paths import path
from orch8.commands_reach import Command, over_api, parse_json, refuse_options, tell
from orch8.errors import InvalidArgument

KINDS: Final = ("doubt", "parked", "incident", "decision")
NOTHING: Final = "Nothing is in doubt."
_DECISIONS: Final = {
    "happened": "It was carried out; give --output, and --ref if there is one.",
    "declined": "The provider said no for good.",
    "retry": "It was surely not carried out: send it again.",
    "skip": "It was surely not carried out: go on without it.",
    "fail": "It was surely not carried out: the step fails.",
    "ask_again": "Nobody knows yet: ask the provider now.",
}


def _as_whom(command: Command) -> Command:
    """The command takes who decides and why."""
    reason = click.option("--reason", required=True, help="How you know; it stands in the log.")
    actor = click.option(
        "--as", "actor", envvar="ORCH8_ACTOR", required=True, help="Who you are, for the audit log."
    )
    return actor(reason(command))


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Choice(("open", "resolved")), default="open")
@click.option("--kind", type=click.Choice(KINDS), multiple=True, help="May be repeated.")
@click.option("--provider")
@click.option("--handler")
@click.option("--older-than", help='A duration such as "10m".')
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@over_api
@click.pass_context
def attention(
    ctx: click.Context, state: str, kind: tuple[str, ...], provider: str | None,
    handler: str | None, older_than: str | None, limit: int, api: Client, as_json: bool,
) -> None:  # fmt: skip
    """List what a person may have to look at, the oldest first."""
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return
    asked = {
        "state": state, "kind": ",".join(kind), "provider": provider, "handler": handler,
        "older_than": older_than, "limit": limit,
    }  # fmt: skip
    _list(api, asked, as_json)


@attention.command()
@over_api
def incidents(api: Client, as_json: bool) -> None:
    """List open incidents, the oldest first."""
    _list(api, {"kind": "incident"}, as_json)


@attention.command()
@click.argument("instance")
@click.argument("node")
@over_api
def show(instance: str, node: str, api: Client, as_json: bool) -> None:
    """Show one attempt side by side with its evidence."""
    found = api.ask("GET", path("attention", instance, node))
    if as_json:
        click.echo(json.dumps(found))
        return
    _tell_attempt(found)


@attention.command()
@click.argument("instance")
@click.argument("node")
@click.option("--output", help="What the step came to, JSON.")
@click.option("--ref", help="The provider's name for it, such as ch_1.")
@click.option("--epoch", type=int, help="The epoch that `show` told: refused if it has changed.")
@_as_whom
@over_api
def decide(
    instance: str, node: str, output: str | None, ref: str | None, epoch: int | None,
    reason: str, api: Client, as_json: bool,
    **chosen: bool,
) -> None:  # fmt: skip
    """Say what became of an attempt, or what is to become of it."""
    named = [name for name, wanted in chosen.items() if wanted]
    if len(named) != 1:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in _DECISIONS)
        raise InvalidArgument(f"say one of {flags}")
    body: dict[str, Any] = {"decision": named[0], "reason": reason}
    if output is not None:
        body["output"] = parse_json(output, "--output")
    body |= {} if ref is None else {"provider_ref": ref}
    body |= {} if epoch is None else {"epoch": epoch}
    done = api.ask("POST", path("attention", instance, node, "decide"), body)
    _tell_decided(done, as_json)


for _name, _help in reversed(_DECISIONS.items()):
    decide = click.option(f"--{_name.replace('_', '-')}", _name, is_flag=True, help=_help)(decide)


@attention.command()
@click.argument("decision")
@_as_whom
@over_api
def confirm(decision: str, reason: str, api: Client, as_json: bool) -> None:
    """Confirm what somebody else decided: it is carried out."""
    at = path("attention", "decisions", decision, "confirm")
    done = api.ask("POST", at, {"reason": reason})
    _tell_decided(done, as_json)


@attention.command()
@click.argument("decision")
@_as_whom
@over_api
def withdraw(decision: str, reason: str, api: Client, as_json: bool) -> None:
    """Withdraw a decision that nobody has confirmed."""
    at = path("attention", "decisions", decision, "withdraw")
    done = api.ask("POST", at, {"reason": reason})
    tell(done, f"{done['id']} {done['state']}", as_json=as_json)


@attention.command()
@click.argument("incident")
@_as_whom
@over_api
def close(incident: str, reason: str, api: Client, as_json: bool) -> None:
    """Close an incident: somebody has looked at it, and says what it came to."""
    done = api.ask("POST", path("attention", "incidents", incident, "close"), {"reason": reason})
    tell(done, f"{done['id']} closed", as_json=as_json)


@click.group(invoke_without_command=True)
@over_api
@click.pass_context
def fences(ctx: click.Context, api: Client, as_json: bool) -> None:
    """List the fences that are taken: who may move money, and how many wait."""
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return
    found = api.ask("GET", "/fences?limit=500")
    if as_json:
        click.echo(json.dumps(found))
    elif not found["items"]:
        click.echo("No fence is taken.")
    else:
        _print(
            ("fence", "instance", "step", "since", "waiting", ""),
            (
                (each["fence"], each["instance_id"], each["node_key"], each["since"],
                 each["waiting"], "customer has to act" if each["settled"] else "")
                for each in found["items"]
            ),
        )  # fmt: skip
        _tell_more(found)


@fences.command()
@click.argument("fence")
@_as_whom
@over_api
def override(fence: str, reason: str, api: Client, as_json: bool) -> None:
    """Take a fence off its holder; who waits longest may move money at once."""
    done = api.ask("POST", path("fences", fence, "override"), {"reason": reason})
    if as_json:
        click.echo(json.dumps(done))
        return
    holder = done["holder"]
    click.echo(f"taken off step {holder['node_key']} of {holder['instance_id']}")
    for each in done["waiting"]:
        click.echo(f"  waits: step {each['node_key']} of {each['instance_id']}")


# -- how it is told ------------------------------------------------------------------------------
def _list(api: Client, asked: Mapping[str, Any], as_json: bool) -> None:
    query = urlencode({name: value for name, value in asked.items() if value})
    found = api.ask("GET", f"/attention?{query}")
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found["items"]:
        narrowed = any(asked.get(name) for name in ("kind", "provider", "handler", "older_than"))
        click.echo("Nothing that you asked for." if narrowed else NOTHING)
        return
    _print(
        ("since", "what", "instance", "step", "amount", "why", "and then"),
        (_row(each) for each in found["items"]),
    )
    _tell_more(found)


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    needed = "! " if each["needs_person"] else ""
    reason, details = each["reason"], each["details"]
    if each["kind"] == "decision":
        reason = f"{details['proposed_by']}: {details['decision']} ({each['id']})"
    elif each["kind"] == "incident":
        reason = f"{reason} ({each['id']})"
    if each["closed_at"]:
        then = f"{details.get('verdict') or details.get('state') or 'closed'} by "
        then += f"{each['closed_by']} at {each['closed_at']}"
    else:
        then = _then(each["next"])
    step = each["step"] or {}
    return (
        each["since"], f"{needed}{each['kind']}", each["instance_id"], each["node_key"] or "",
        _amount(step.get("money") or details.get("money")), reason, then,
    )  # fmt: skip


def _then(following: Mapping[str, Any] | None) -> str:
    if following is None:
        return ""
    return f"{following['does']} at {following['at']}" if following["at"] else following["does"]


def _amount(money: Any) -> str:
    """The amount as the provider takes it: in minor units, which have no point to misplace."""
    if not isinstance(money, dict) or "amount" not in money:
        return ""
    return f"{money['amount']} {money.get('currency', '')}".strip()


def _tell_attempt(found: Mapping[str, Any]) -> None:
    step, policy = found["step"], found["policy"] or {}
    first, last = step["first_dispatched_at"], step["last_dispatched_at"]
    click.echo(f"{found['instance_id']} {found['node_key']}: {step['state']}, {step['outcome']}")
    for name, value in (
        ("handler", found["handler"]), ("effect", found["effect"]),
        ("provider", found["provider"]), ("amount", _amount(step["money"])),
        ("key", step["idempotency_key"]), ("reference", step["provider_ref"]),
        ("sent", f"{step['dispatches']} times, first {first}, last {last}"),
        ("why parked", (step["attention"] or {}).get("reason")),
        ("what is wrong", (step["attention"] or {}).get("why")),
        ("in doubt", (policy.get("on_unknown") or {}).get("policy")),
        ("and then", _then(found["next"])), ("epoch", found["epoch"]),
        ("two people", "yes" if found["two_people"] else "no"),
        ("fence", (found["fence"] or {}).get("fence")),
        ("request", json.dumps(found["request"]["params"]) if found["request"] else None),
    ):  # fmt: skip
        if value not in (None, ""):
            click.echo(f"  {name}: {value}")
    if found["evidence"]:
        click.echo("\nWhat was observed")
        _print(
            ("when", "kind", "verdict", "what"),
            ((e["at"], e["kind"], e["verdict"] or "", json.dumps(e["body"]))
             for e in found["evidence"]),
        )  # fmt: skip
    if found["signals"]:
        click.echo("\nSignals that may belong to it")
        _print(
            ("when", "name", "means", "payload"),
            ((s["received_at"], s["name"], s["means"] or "", json.dumps(s["payload"]))
             for s in found["signals"]),
        )  # fmt: skip
    for each in found["decisions"]:
        if each["state"] == "open":
            click.echo(
                f"\n{each['proposed_by']} proposed {each['decision']} ({each['reason']}): "
                f"orch8 attention confirm {each['id']}"
            )
    waiting = (found["fence"] or {}).get("waiting") or ()
    for each in waiting:
        click.echo(f"waits behind its fence: step {each['node_key']} of {each['instance_id']}")
    click.echo("\nDecisions")
    for name, refusal in found["decide"].items():
        click.echo(f"  {name}: {_DECISIONS.get(name, '') if refusal is None else f'no, {refusal}'}")


def _tell_decided(done: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(done))
    elif "proposed_by" in done:
        click.echo(
            f"This amount needs two people. Another one: orch8 attention confirm {done['id']}"
        )
    else:
        click.echo(f"{done['id']} {done['state']}")


def _tell_more(found: Mapping[str, Any]) -> None:
    if found["has_more"]:
        click.echo("There are more: narrow the list, or use --json and next_cursor.")


def _print(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(markup=False, emoji=False).print(table)
