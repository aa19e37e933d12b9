"""A pretend payment provider as a real HTTP server: it fails the way real ones do.

``POST /<handler>`` is what orch8 calls. ``GET /ledger`` shows what was charged, ``PUT /script``
says how to misbehave. Run it with ``python -m orch8.testing.provider --port 9000``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import click
import orjson

from orch8.errors import ConfigurationError, InvalidArgument, Orch8Error
from orch8.testing.acquirer import Acquirer
from orch8.testing.agenda import Agenda
from orch8.testing.endpoint import Server
from orch8.testing.ledger import Ledger, Replay
from orch8.testing.misbehaviour import Rule, Script, rules_from_json
from orch8.testing.personalities import PERSONALITIES, personality
from orch8.testing.search import Search
from orch8.testing.webhooks import Format, Target, Webhooks

_CLOSE_WITHIN: Final = 5.0


class Provider:
    """The provider: start it, point ORCH8_HANDLER_URL at ``url``, read ``ledger``, close it.

    ``preset`` names the provider to imitate; ``replay`` and ``key_ttl`` are then its, unless they
    are given. ``key_ttl``, ``latency`` and ``search_lag`` are seconds; ``secrets`` are whsec_
    secrets: with any, a request that none of them signed is answered 401. ``webhooks`` is where it
    tells of its charges. Raises ConfigurationError for a ledger or an address that is taken.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ledger_file: Path | None = None,
        rules: Iterable[Rule] = (),
        preset: str = "none",
        replay: Replay | None = None,
        key_ttl: float | None = None,
        latency: float = 0.0,
        secrets: Sequence[str] = (),
        seed: int = 0,
        webhooks: Target | None = None,
        search_lag: float = 0.0,
    ) -> None:
        likeness = personality(preset)
        self.ledger = Ledger(
            ledger_file,
            replay=likeness.replay if replay is None else replay,
            key_ttl=likeness.key_ttl if key_ttl is None else key_ttl,
            checks_body=likeness.checks_body,
        )
        self.script = Script(rules, seed=seed)
        self._agenda = Agenda()
        self.webhooks = Webhooks(self._agenda, self.script, likeness, webhooks)
        self.acquirer = Acquirer(
            self.ledger,
            self.script,
            likeness,
            webhooks=self.webhooks,
            search=Search(self.ledger, self.script, lag=search_lag),
            agenda=self._agenda,
            latency=latency,
            secrets=secrets,
        )
        try:
            self._server = Server((host, port), self.acquirer)
        except OSError as wrong:
            self.ledger.close()
            raise ConfigurationError(
                f"the address {host}:{port} cannot be used ({wrong.strerror}); use another port"
            ) from None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base address of the handlers, without a slash at its end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> Self:
        """The provider answers from now on."""
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), name="provider", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """No connection is open any more, no webhook is sent, and the ledger is on disk."""
        self.acquirer.stopping.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout=_CLOSE_WITHIN)
        self._server.server_close()
        self._server.drop_connections(_CLOSE_WITHIN)
        self._agenda.close(_CLOSE_WITHIN)
        self.ledger.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9000, show_default=True, help="0 takes a free one.")
@click.option("--ledger", type=click.Path(path_type=Path), help="SQLite file that keeps the book.")
@click.option("--script", type=click.Path(path_type=Path, exists=True), help="JSON list of rules.")
@click.option("--preset", type=click.Choice(list(PERSONALITIES)), default="none", show_default=True)
@click.option(
    "--replay",
    type=click.Choice(list(Replay), case_sensitive=False),
    help="Instead of the preset's.",
)
@click.option("--key-ttl", type=float, help="Seconds a key is kept, instead of the preset's.")
@click.option("--latency-ms", default=0.0, show_default=True, help="Added to every effect.")
@click.option("--secret", multiple=True, help="whsec_ secret that must sign each request.")
@click.option("--seed", default=0, show_default=True, help="Of the rules' chances.")
@click.option("--search-lag-ms", default=0.0, show_default=True, help="Until a search sees it.")
@click.option("--webhook-url", help="Where charges are announced.")
@click.option("--webhook-secret", help="whsec_ secret that signs webhooks.")
@click.option(
    "--webhook-format", type=click.Choice([f.value for f in Format]), default=Format.EVENT.value
)
@click.option("--webhook-header", multiple=True, help="'Name: value', may be repeated.")
def main(
    host: str,
    port: int,
    ledger: Path | None,
    script: Path | None,
    preset: str,
    replay: Replay | None,
    key_ttl: float | None,
    latency_ms: float,
    secret: tuple[str, ...],
    seed: int,
    search_lag_ms: float,
    webhook_url: str | None,
    webhook_secret: str | None,
    webhook_format: str,
    webhook_header: tuple[str, ...],
) -> None:
    """Run a pretend payment provider until it is interrupted."""
    wanted: dict[str, Any] = {"url": webhook_url, "secret": webhook_secret}
    try:
        headers = dict(_header(given) for given in webhook_header)
        target = Target.from_json(wanted | {"format": webhook_format, "headers": headers})
        provider = Provider(
            host=host,
            port=port,
            ledger_file=ledger,
            rules=_rules(script),
            preset=preset,
            replay=Replay(replay) if replay is not None else None,
            key_ttl=key_ttl,
            latency=latency_ms / 1000,
            secrets=secret,
            seed=seed,
            webhooks=target,
            search_lag=search_lag_ms / 1000,
        )
    except Orch8Error as wrong:
        raise click.ClickException(wrong.detail) from None
    with provider:
        click.echo(f"provider on {provider.url}")
        stopping = provider.acquirer.stopping
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        while not stopping.wait(3600):
            pass


def _rules(script: Path | None) -> list[Rule]:
    if script is None:
        return []
    try:
        return rules_from_json(orjson.loads(script.read_bytes()))
    except (orjson.JSONDecodeError, InvalidArgument) as wrong:
        raise InvalidArgument(f"--script {script}: {wrong}") from None


def _header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon:
        raise InvalidArgument(f"--webhook-header {given!r}: write it as 'Name: value'")
    return name.strip(), value.strip()


if __name__ == "__main__":
    main()
