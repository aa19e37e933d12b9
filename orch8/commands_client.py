"""What people do with a running orch8 from the command line, over its API."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from orch8.errors import (
    BadGateway,
    ConfigurationError,
    InvalidArgument,
    MalformedBody,
    NotFound,
    Orch8Error,
)

TIMEOUT = 30.0
_STATUS = {404: NotFound}

_url = click.option(
    "--url", envvar="ORCH8_URL", default="http://127.0.0.1:8080", show_default=True, help="The API."
)
_key = click.option("--api-key", envvar="ORCH8_API_KEY", help="Sent as x-api-key.")
_tenant = click.option("--tenant", envvar="ORCH8_TENANT", help="Sent as X-Tenant-Id.")
_as_json = click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")


class _Api:
    """One orch8, reached over HTTP."""

    def __init__(
        self, url: str, api_key: str | None, tenant: str | None, actor: str = "cli"
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "X-Actor": actor}
        if api_key:
            self._headers["x-api-key"] = api_key
        if tenant:
            self._headers["X-Tenant-Id"] = tenant

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer; its problem as an error of ours."""
        raw = self._send(method, path, None if body is None else json.dumps(body).encode())
        if method == "DELETE" and not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError:
            raise BadGateway(f"{self._url} is no orch8: it answered {raw[:80]!r}") from None

    def _send(self, method: str, path: str, data: bytes | None) -> bytes:
        if not self._url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--url {self._url!r} must begin with http:// or https://")
        request = urllib.request.Request(  # noqa: S310 - the operator's own address
            f"{self._url}/api/v1{path}", data=data, method=method, headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                raw: bytes = answer.read()
                return raw
        except urllib.error.HTTPError as error:
            raise _problem(error.code, error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            raise BadGateway(f"{self._url} cannot be reached: {error}; is orch8 running?") from None


def _problem(status: int, raw: bytes) -> Orch8Error:
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return BadGateway(f"the API answered {status}: {raw[:200]!r}")
    lines = [str(said.get("error") or said.get("detail") or status)]
    for each in said.get("errors", ()):
        hint = f" ({each['hint']})" if each.get("hint") else ""
        lines.append(f"  {each.get('pointer') or '/'}: {each.get('message')}{hint}")
    return _STATUS.get(status, InvalidArgument)("\n".join(lines))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_url
@_key
@_tenant
@_as_json
@click.option("--strict", is_flag=True, help="Refuse what may cost money: remarks are errors.")
def publish(
    file: Path, url: str, api_key: str | None, tenant: str | None, as_json: bool, strict: bool
) -> None:
    """Publish a sequence; the same body again is no new version."""
    path = "/sequences?strict=true" if strict else "/sequences"
    made = _Api(url, api_key, tenant).ask("POST", path, _read(file))
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
@_url
@_key
@_tenant
@_as_json
def start(
    sequence: str,
    body: Path | None,
    data: str | None,
    key: str | None,
    url: str,
    api_key: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Start an instance of a sequence."""
    request = _read(body) if body else {}
    if not isinstance(request, dict):
        raise MalformedBody(f"{body}: the request must be a JSON object")
    if data is not None:
        request["context"] = {"data": _parse(data, "--data")}
    if key is not None:
        request["idempotency_key"] = key
    path = f"/sequences/{quote(sequence, safe='')}/instances"
    made = _Api(url, api_key, tenant).ask("POST", path, request)
    seen = " (it was there before)" if made.get("deduplicated") else ""
    click.echo(json.dumps(made) if as_json else f"{made['id']} {made.get('state', '')}{seen}")


@click.command()
@click.argument("instance")
@_url
@_key
@_tenant
@_as_json
def show(instance: str, url: str, api_key: str | None, tenant: str | None, as_json: bool) -> None:
    """Show an instance: its state and what happened, by whom and why."""
    api = _Api(url, api_key, tenant)
    found = api.ask("GET", f"/instances/{quote(instance)}")
    entries = api.ask("GET", f"/instances/{quote(instance)}/audit")
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
@click.argument("words", nargs=-1, required=True, metavar="[INSTANCE] NAME")
@click.option(
    "--correlate",
    multiple=True,
    metavar="NAME=VALUE",
    help="Instead of an instance: every open one that has this; all of them if given repeatedly.",
)
@click.option("--payload", default="null", help="JSON.")
@click.option("--reason", help="Why; it stands in the audit log.")
@click.option("--dedupe-key", help="Sent again with the same key, it does nothing.")
@_url
@_key
@_tenant
@_as_json
def signal(
    words: tuple[str, ...],
    correlate: tuple[str, ...],
    payload: str,
    reason: str | None,
    dedupe_key: str | None,
    url: str,
    api_key: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Send a signal: pause, resume, cancel, update_context, or a name of your own."""
    if len(words) != (1 if correlate else 2):
        raise click.UsageError("give an instance and the signal's name; with --correlate, the name")
    name = words[-1]
    body: dict[str, Any] = {"payload": _parse(payload, "--payload"), "reason": reason}
    if dedupe_key:
        body["dedupe_key"] = dedupe_key
    api = _Api(url, api_key, tenant)
    if not correlate:
        controls = ("pause", "resume", "cancel", "update_context")
        kind: Any = name if name in controls else {"custom": name}
        body["signal_type"] = kind
        sent = api.ask("POST", f"/instances/{quote(words[0])}/signals", body)
        click.echo(json.dumps(sent) if as_json else f"sent {sent['signal_id']}")
        return
    body |= {"signal": name, "correlate": dict(map(_pair, correlate))}
    found = api.ask("POST", "/signals", body)
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
@_url
@_key
@_tenant
@_as_json
def evidence(
    key: str | None,
    ref: str | None,
    instance: str | None,
    step: str | None,
    outcome: str,
    output: str | None,
    event_id: str | None,
    url: str,
    api_key: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Tell how an attempt ended, as the provider says."""
    said = {
        "idempotency_key": key, "provider_ref": ref, "instance_id": instance, "step": step,
        "outcome": outcome, "event_id": event_id,
        "output": None if output is None else _parse(output, "--output"),
    }  # fmt: skip
    body = {name: value for name, value in said.items() if value is not None}
    heard = _Api(url, api_key, tenant).ask("POST", "/attempts/evidence", body)
    told = f"{heard['state']}: {heard['node_key']} of {heard['instance_id']}"
    click.echo(json.dumps(heard) if as_json else told)


@click.command()
@click.argument("instance")
@click.option("--reason", help="Why; it stands in the audit log.")
@_url
@_key
@_tenant
@_as_json
def retry(
    instance: str,
    reason: str | None,
    url: str,
    api_key: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Let a failed instance go on where it failed; what completed is not called again."""
    body = {"reason": reason} if reason else {}
    done = _Api(url, api_key, tenant).ask("POST", f"/instances/{quote(instance)}/retry", body)
    click.echo(json.dumps(done) if as_json else f"{done['id']} {done['state']}")


def _moment(entry: dict[str, Any]) -> tuple[datetime, str]:
    """When it happened; of two at the same moment, the ids tell which came first."""
    return datetime.fromisoformat(entry["at"]), str(entry.get("id", ""))


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise click.UsageError(f"--correlate {text!r} must be NAME=VALUE, such as invoice_id=in_1")
    return name, value


def _read(file: Path) -> Any:
    return _parse(file.read_bytes(), str(file))


def _parse(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise MalformedBody(f"{where} is not valid JSON: {error}") from None
