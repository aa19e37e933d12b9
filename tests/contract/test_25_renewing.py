"""CONTRACT 25: oauth2 tokens are renewed before they end, once, and nobody sees how."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest

from orch8.runtime import renewal, vault
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.runtime.renewal import Renewer
from orch8.storage import credentials
from tests.support.house import House, until

KEY = "b2" * 32
TOKEN, REFRESH = "at-planted-0123456789", "rt-planted-0123456789"
FRESH, ROTATED = "at-fresh-0123456789", "rt-rotated-0123456789"
GRANTED = {"access_token": FRESH, "refresh_token": ROTATED, "expires_in": 3600}


@dataclass
class Issuer:
    """A provider's token endpoint, which answers what it is told to."""

    url: str = ""
    status: int = 200
    answer: Any = field(default_factory=lambda: GRANTED)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A token endpoint on a port of its own."""
    found = Issuer()
    found.answers.set()
    with listening(found):
        yield found


@contextmanager
def listening(found: Issuer) -> Iterator[None]:
    """The endpoint answers for as long as the block takes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.asked.append((self.headers["Content-Type"], dict(parse_qsl(body))))
            found.answers.wait(20)
            self.send_response(found.status)
            self.end_headers()
            raw = found.answer
            self.wfile.write(raw if isinstance(raw, bytes) else json.dumps(raw).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            found.answers.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house with an encryption key, that may call this machine."""
    return houses(encryption_key=KEY, allow_internal_urls=True)


def keep(
    house: House, issuer: Issuer, credential_id: str = "psp", *, ends: float = 60.0, **more: Any
) -> None:
    """There is an oauth2 credential that ends in so many seconds."""
    given = {
        "name": "PSP", "kind": "oauth2", "value": json.dumps({"access_token": TOKEN, "scope": "p"}),
        "refresh_url": issuer.url, "refresh_token": REFRESH,
        "expires_at": datetime.now(UTC) + timedelta(seconds=ends), **more,
    }  # fmt: skip
    with house.office.begin() as tx:
        vault.create(house.office, tx, credential_id, "default", given, Because(actor="test"))


def value(office: Office, credential_id: str = "psp") -> str:
    """The secret as calls carry it."""
    with office.begin() as tx:
        return credentials.values(tx, "default", [credential_id])[credential_id]


def refresh_token(house: House) -> str:
    """What the credential is renewed with next."""
    house.sql("UPDATE credentials SET expires_at = now(), renewal_due_at = NULL")
    with house.office.begin() as tx:
        soon = timedelta(minutes=5)
        (found,) = credentials.claim_renewable(tx, soon, timedelta(seconds=60), 10)
    return found.refresh_token


def told(house: House) -> list[tuple[str, Any]]:
    """What the audit log tells of credentials."""
    sql = """SELECT action, body FROM audit_log WHERE action LIKE 'credential.%%renewed'
             ORDER BY id"""
    return [(row.action, row.body) for row in house.sql(sql.replace("%%", "%"))]


def test_token_that_ends_soon_is_renewed(house: House, issuer: Issuer) -> None:
    """By a form with its refresh token; what the provider answers is kept in its place."""
    keep(house, issuer)
    assert Renewer(house.office).round() == 1
    form = {"grant_type": "refresh_token", "refresh_token": REFRESH}
    assert issuer.asked == [("application/x-www-form-urlencoded", form)]
    assert json.loads(value(house.office)) == {"access_token": FRESH, "scope": "p"}
    (row,) = house.sql("SELECT expires_at - clock_timestamp() AS ends FROM credentials")
    assert timedelta(minutes=59) < row.ends <= timedelta(hours=1)
    assert refresh_token(house) == ROTATED


def test_what_is_kept_is_sealed_and_told_of_without_secrets(house: House, issuer: Issuer) -> None:
    """In the row, in the audit log, and in what is logged of the objects."""
    keep(house, issuer)
    Renewer(house.office).round()
    rows = house.sql("SELECT c::text AS text FROM credentials c UNION ALL SELECT a::text"
                     " FROM audit_log a")  # fmt: skip
    assert not [r for r in rows for s in (TOKEN, REFRESH, FRESH, ROTATED) if s in r.text]
    assert [action for action, _ in told(house)] == ["credential.renewed"]


@pytest.mark.parametrize(
    "more",
    [
        {"ends": 400.0}, {"kind": "api_key"}, {"enabled": False}, {"expires_at": None},
        {"refresh_url": None},
    ],
)  # fmt: skip
def test_others_are_left_alone(house: House, issuer: Issuer, more: dict[str, Any]) -> None:
    """What ends later, is disabled, or cannot be renewed."""
    ends = more.pop("ends", 60.0)
    disabled = more.pop("enabled", True) is False
    keep(house, issuer, ends=ends)
    for name, to in more.items():
        house.sql(f"UPDATE credentials SET {name} = %s", to)
    if disabled:
        house.sql("UPDATE credentials SET enabled = false")
    assert Renewer(house.office).round() == 0
    assert issuer.asked == []


def test_client_of_the_value_is_named(house: House, issuer: Issuer) -> None:
    """client_id and client_secret go along, where the value has them."""
    keep(house, issuer, value=json.dumps({"client_id": "c", "client_secret": "s", "n": 1}))
    Renewer(house.office).round()
    assert issuer.asked[0][1].items() >= {"client_id": "c", "client_secret": "s"}.items()
    kept = json.loads(value(house.office))
    assert kept == {"client_id": "c", "client_secret": "s", "n": 1, "access_token": FRESH}


def test_value_keeps_its_form(house: House, issuer: Issuer) -> None:
    """A bare token stays one; a refresh token in the value is replaced, too."""
    keep(house, issuer, "bare", value=TOKEN)
    keep(house, issuer, "whole", value=json.dumps({"access_token": TOKEN, "refresh_token": "r"}))
    Renewer(house.office).round()
    assert value(house.office, "bare") == FRESH
    whole = {"access_token": FRESH, "refresh_token": ROTATED}
    assert json.loads(value(house.office, "whole")) == whole


@pytest.mark.parametrize("given", [None, "soon", -5, "inf", "nan"])
def test_token_without_an_end_is_good_for_an_hour(house: House, issuer: Issuer, given: Any) -> None:
    """The old refresh token stays where there is no new one."""
    issuer.answer = {"access_token": FRESH, "expires_in": given}
    keep(house, issuer)
    Renewer(house.office).round()
    (row,) = house.sql("SELECT expires_at - clock_timestamp() AS ends FROM credentials")
    assert row.ends > timedelta(minutes=59)
    assert refresh_token(house) == REFRESH


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (400, {"error": "invalid_grant"}, "the provider answered 400: invalid_grant"),
        (401, {"error": REFRESH}, "the provider answered 401"),
        (500, b"oops", "the provider answered 500"),
        (302, {}, "the provider answered 302"),
        (200, {"token": FRESH}, "the provider's answer has no access_token"),
        (200, b"[]", "the provider's answer has no access_token"),
    ],
)
def test_failure_is_told_and_tried_again_later(
    house: House, issuer: Issuer, status: int, answer: Any, why: str
) -> None:
    """With its reason, which never quotes a secret; the token stays as it was."""
    issuer.status, issuer.answer = status, answer
    keep(house, issuer)
    renewer = Renewer(house.office)
    assert [renewer.round(), renewer.round()] == [0, 0]
    assert len(issuer.asked) == 1
    assert told(house) == [
        ("credential.not_renewed", {"credential": "psp", "why": why, "failures": 1})
    ]
    assert json.loads(value(house.office))["access_token"] == TOKEN


def test_pauses_between_failures_grow(house: House, issuer: Issuer) -> None:
    """From a minute on, up to an hour; a change of the credential ends them."""
    issuer.status = 503
    keep(house, issuer)
    pauses = []
    for _ in range(8):
        Renewer(house.office).round()
        (row,) = house.sql("SELECT renewal_due_at - clock_timestamp() AS pause FROM credentials")
        pauses.append(round(row.pause.total_seconds()))
        house.sql("UPDATE credentials SET renewal_due_at = clock_timestamp()")
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    house.sql("UPDATE credentials SET renewal_due_at = clock_timestamp() + interval '1 h'")
    with house.office.begin() as tx:
        because = Because(actor="ann")
        vault.change(house.office, tx, "psp", {"refresh_token": "new"}, because, tenant_id=None)
    issuer.status = 200
    assert Renewer(house.office).round() == 1
    assert issuer.asked[-1][1]["refresh_token"] == "new"


def test_two_processes_never_renew_one_token(house: House, issuer: Issuer) -> None:
    """While one waits for the provider's answer, another passes the credential over."""
    issuer.answers.clear()
    keep(house, issuer)
    first, second = (Renewer(o) for o in (house.office, house.another_office()))
    first.go()
    until(lambda: issuer.asked)
    assert second.round() == 0
    issuer.answers.set()
    until(lambda: told(house))
    assert len(issuer.asked) == 1
    assert json.loads(value(house.office))["access_token"] == FRESH
    first.stop(5)


def test_what_an_operator_changed_meanwhile_stays(house: House, issuer: Issuer) -> None:
    """The provider's answer to the older token is let go."""
    issuer.answers.clear()
    keep(house, issuer)
    renewer = Renewer(house.office)
    renewer.go()
    until(lambda: issuer.asked)
    with house.office.begin() as tx:
        because = Because(actor="ann")
        vault.change(house.office, tx, "psp", {"value": "by hand"}, because, tenant_id=None)
    issuer.answers.set()
    renewer.stop(5)
    assert value(house.office) == "by hand"
    assert told(house) == []


def test_token_that_came_late_is_kept_all_the_same(house: House, issuer: Issuer) -> None:
    """Although another process asked meanwhile, and was refused: only this one is good now."""
    keep(house, issuer)
    with house.office.begin() as tx:
        soon, held = timedelta(minutes=5), timedelta(seconds=-1)
        (late,) = credentials.claim_renewable(tx, soon, held, 10)
    issuer.status, issuer.answer = 400, {"error": "invalid_grant"}
    assert Renewer(house.office).round() == 0
    with house.office.begin() as tx:
        ends = datetime.now(UTC) + timedelta(hours=1)
        assert renewal.keep(tx, late, {"value": FRESH, "expires_at": ends})
    assert value(house.office) == FRESH


def test_internal_addresses_are_not_asked(houses: Callable[..., House], issuer: Issuer) -> None:
    """The guard against calls into private networks holds at the moment of connecting."""
    house = houses(encryption_key=KEY)
    with house.office.begin() as tx:
        given = {
            "name": "PSP", "kind": "oauth2", "value": TOKEN, "refresh_token": REFRESH,
            "expires_at": datetime.now(UTC),
        }  # fmt: skip
        credentials.insert(tx, "psp", "default", {**given, "refresh_url": issuer.url})
    assert Renewer(house.office).round() == 0
    assert issuer.asked == []
    ((_, body),) = told(house)
    assert "127.0.0.1" in body["why"]


def test_many_are_renewed_in_one_round(house: House, issuer: Issuer) -> None:
    """However many are asked for at once."""
    for n in range(2 * renewal.AT_ONCE + 1):
        keep(house, issuer, f"psp-{n}")
    assert Renewer(house.office).round() == 2 * renewal.AT_ONCE + 1
    assert len(issuer.asked) == 2 * renewal.AT_ONCE + 1


def test_tick_looks_once_a_minute(house: House, issuer: Issuer) -> None:
    """A renewer that was told to go a moment ago asks nothing."""
    renewer = Renewer(house.office)
    keep(house, issuer)
    renewer.go()
    until(lambda: told(house))
    keep(house, issuer, "another")
    renewer.go()
    renewer.stop(5)
    renewer.go()
    assert len(issuer.asked) == 1
