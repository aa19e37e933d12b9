"""``orch8 limits``: how full rate limits are, when their queues drain, and setting them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from orch8.client.connected import Client
from orch8.commands_attention import _print
from orch8.commands_reach import over_api, refuse_options, tell
from orch8.errors import InvalidArgument, NotFound

NOTHING: Final = (
    "No rate limit is stated, and no step waits for one. "
    "Begin with `orch8 limits presets`, or `orch8 limits set KEY --max 95 --window 1`."
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_actor = click.option(
    "--as", "actor", envvar="ORCH8_ACTOR", default="cli", help="Who you are, for the audit log."
)


@click.group(invoke_without_command=True)
@over_api
@click.pass_context
def limits(ctx: click.Context, api: Client, as_json: bool) -> None:
    """List rate limits: what is used now, who waits, when they are through, who comes too late."""
    if ctx.invoked_subcommand is not None:
        refuse_options(ctx)
        return
    found = api.ask("GET", "/rate-limits/forecast")
    if as_json:
        click.echo(json.dumps(found))
    elif not found["items"]:
        click.echo(NOTHING)
    else:
        items = found["items"]
        several = len({each["tenant_id"] for each in items}) > 1
        whose = ("tenant",) if several else ()
        names = (*whose, "key", "limit", "used now", "waiting", "drains in", "will miss")
        _print(names, ((*(each["tenant_id"] for _ in whose), *_row(each)) for each in items))
        if found.get("left_out"):
            click.echo(f"and {found['left_out']} more; see one with `orch8 limits show KEY`")


@limits.command()
@click.argument("key")
@over_api
def show(key: str, api: Client, as_json: bool) -> None:
    """Show one key: its limit, its queue by lane, and the steps that come too late."""
    query = urlencode({"key": key})
    found = api.ask("GET", f"/rate-limits/forecast?{query}")
    if as_json:
        click.echo(json.dumps(found))
        return
    for each in found["items"]:
        _tell(each)


@limits.command(name="set")
@click.argument("key")
@click.option("--max", "most", type=click.IntRange(1), help="Calls in any window.")
@click.option("--window", type=float, help="Seconds; 1 if it is left out.")
@click.option("--slack", type=float, help="Seconds allowed from token to call; 0.02 if left out.")
@click.option("--max-in-flight", type=click.IntRange(1), help="Calls at a time.")
@_actor
@over_api
def set_(
    key: str, most: int | None, window: float | None, slack: float | None,
    max_in_flight: int | None, api: Client, as_json: bool,
) -> None:  # fmt: skip
    """Set the limit of a key: it wins over what sequences say, in every worker within a second."""
    if most is None and (window is not None or slack is not None or max_in_flight is None):
        raise InvalidArgument("say how many: --max 95 --window 1, or --max-in-flight 30")
    asked = {
        "max": most,
        "window_seconds": None if most is None else window or 1.0,
        "slack_seconds": slack,
        "max_in_flight": max_in_flight,
    }
    done = _put(api, key, asked)
    tell(done, f"{key}: {_limit(done)}", as_json=as_json)


@limits.command()
@click.argument("key")
@_actor
@over_api
def unset(key: str, api: Client, as_json: bool) -> None:
    """Take the limit of a key back: what sequences say holds again."""
    api.ask("DELETE", _path(key))
    tell({"key": key}, f"{key}: what sequences say holds again", as_json=as_json)


@limits.command()
@click.argument("provider", required=False)
@over_api
def presets(provider: str | None, api: Client, as_json: bool) -> None:
    """List the limits that providers publish, with sources; of one of them in full."""
    found = api.ask("GET", "/rate-limits/presets")
    known = found["items"] if provider is None else [_of(found, provider)]
    if as_json:
        click.echo(json.dumps({**found, "items": known}))
        return
    if provider is not None:
        _tell_preset(known[0])
        return
    rows = (
        (each["name"], each["title"], len(each["limits"]), each["checked"], each["source"])
        for each in known
    )
    _print(("name", "provider", "limits", "checked", "source"), rows)


@limits.command()
@click.argument("provider")
@click.option("--account", required=True, help="What the provider counts by, such as acct_1.")
@click.option("--live/--test", default=True, help="Whose numbers: live if neither is said.")
@_actor
@over_api
def apply(provider: str, account: str, live: bool, api: Client, as_json: bool) -> None:
    """Set the published limits of a provider for an account; safe to repeat."""
    mode = "live" if live else "test"
    preset = _of(api.ask("GET", "/rate-limits/presets"), provider)
    published = [each for each in preset["limits"] if each[mode] is not None]
    if not published:
        raise NotFound(f"{preset['title']} publishes no limits for {mode} ({preset['source']})")
    done, of_each = [], []
    for each in published:
        if each["each"] is not None:
            of_each.append(each)
            continue
        key = each["key"].format(mode=mode, account=account)
        done.append(_put(api, key, each[mode]))
    if as_json:
        click.echo(json.dumps({"items": done}))
        return
    for each in done:
        click.echo(f"{each['key']}: {_limit(each)}")
    for each in of_each:
        hint = "state it in the step, as rate_limits"
        click.echo(f"not set, since each {each['each']} has its own: {each['key']}; {hint}")
    click.echo(f"as published at {preset['source']}, checked {preset['checked']}")


# -- asking --------------------------------------------------------------------------------------
def _put(api: Client, key: str, asked: Mapping[str, Any]) -> Any:
    body = {name: value for name, value in asked.items() if value is not None}
    return api.ask("PUT", _path(key), body)


def _path(key: str) -> str:
    return f"/rate-limits/{quote(key)}"


def _of(found: Mapping[str, Any], provider: str) -> Mapping[str, Any]:
    known = {each["name"]: each for each in found["items"]}
    if provider not in known:
        raise NotFound(f"no limits of {provider!r} are known, only of {', '.join(sorted(known))}")
    preset: Mapping[str, Any] = known[provider]
    return preset


# -- how it is told ------------------------------------------------------------------------------
def _row(each: Mapping[str, Any]) -> tuple[Any, ...]:
    waiting = each["waiting"]
    drains = span(each["drain_seconds"]) if waiting else ""
    return (
        each["key"], _limit(each), _used(each), waiting or "", drains, each["will_miss"] or "",
    )  # fmt: skip


def _limit(each: Mapping[str, Any]) -> str:
    """Such as ``95 in 1s, 30 at a time``."""
    parts = []
    if each["max"] is not None:
        parts.append(f"{each['max']} in {span(each['window_seconds'])}")
    if each["max_in_flight"] is not None:
        parts.append(f"{each['max_in_flight']} at a time")
    return ", ".join(parts) or "none"


def _used(each: Mapping[str, Any]) -> str:
    parts = [] if each["used"] is None else [str(each["used"])]
    if each["in_flight"] and each["max_in_flight"] is not None:
        parts.append(f"{each['in_flight']} in flight")
    if each["blocked_seconds"]:
        parts.append(f"blocked for {span(each['blocked_seconds'])}")
    return ", ".join(parts) or "?"


def _tell(each: Mapping[str, Any]) -> None:
    lanes = ", ".join(f"{count} {lane}" for lane, count in each["waiting_by_lane"].items())
    drains = f"{each['drains_at']}, in {span(each['drain_seconds'])}" if each["waiting"] else ""
    click.echo(each["key"])
    for name, value in (
        ("tenant", each["tenant_id"]), ("limit", _limit(each)), ("used now", _used(each)),
        ("waiting", lanes or "nobody"), ("drains at", drains), ("paused", each["paused"]),
        ("will miss", each["will_miss"]),
    ):  # fmt: skip
        if value not in ("", 0):
            click.echo(f"  {name}: {value}")
    if each["misses"]:
        names = ("instance", "step", "lane", "misses its", "which ends at", "has its turn at")
        fields = ("instance_id", "node_key", "lane", "misses", "ends_at", "turn_at")
        _print(names, ([miss[field] for field in fields] for miss in each["misses"]))
        if each["will_miss"] > len(each["misses"]):
            click.echo(f"and {each['will_miss'] - len(each['misses'])} more")


def _tell_preset(preset: Mapping[str, Any]) -> None:
    click.echo(f"{preset['title']}, by {preset['account']}")
    _print(("key", "live", "test", "covers"), _published(preset))
    click.echo(f"{preset['source']}, checked {preset['checked']}")
    if preset["note"]:
        click.echo(preset["note"])


def _published(preset: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for each in preset["limits"]:
        modes = ("" if each[mode] is None else _limit(each[mode]) for mode in ("live", "test"))
        yield each["key"], *modes, each["covers"]


def span(seconds: float) -> str:
    """A span for people: ``1s``, ``17m 33s``, ``2d 4h``."""
    if seconds < _MINUTE:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    for unit, name, below, of in (
        (_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", 1, "s"),
    ):  # fmt: skip
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit}{name}" + (f" {rest}{of}" if rest else "")
    raise AssertionError(seconds)
