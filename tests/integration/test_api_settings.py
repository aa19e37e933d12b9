"""Handlers, rate limits and the development clock over REST."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from orch8.errors import Conflict
from orch8.runtime.office import LIMITS_REFRESH, read_limits
from orch8.runtime.preparing import Limits
from orch8.storage import fleet, rate_limits
from orch8.storage.rate_limits import Stated
from tests.support.api import Api, serving
from tests.support.servers import Database

LIMITED = {
    "id": "limited",
    "blocks": [
        {
            "type": "step",
            "handler": "charge",
            "rate_limit_key": "stripe:charges",
            "rate_limit": {"max": 95, "window_seconds": 1},
        }
    ],
}


def test_handler_is_registered_and_forgotten(postgres: Database) -> None:
    """PUT says where a handler is reached, DELETE takes it back; both are in the audit log."""
    with serving(postgres, allow_internal_urls=True) as api:
        body = {"url": "http://127.0.0.1:9/h", "effect": "money", "timeout": "1m30s"}
        answer = api.send("PUT", "/handlers/charge", body, headers={"X-Actor": "ann"})
        assert answer.status_code == 200, answer.text
        assert {k: answer.json[k] for k in ("name", "url", "effect", "timeout")} == {
            "name": "charge", "url": "http://127.0.0.1:9/h", "effect": "money", "timeout": 90.0,
        }  # fmt: skip
        listed = api.get("/handlers")
        assert listed["external"] == ["charge"]
        assert "http_request" in listed["builtin"]
        assert [each["name"] for each in listed["registered"]] == ["charge"]
        assert api.get("/handlers", headers={"X-Tenant-Id": "other"})["registered"] == []
        assert api.send("DELETE", "/handlers/charge").status_code == 204
        api.refused(404, "DELETE", "/handlers/charge")
        audit = api.rows("SELECT actor, action FROM audit_log ORDER BY id")
        assert audit == [("ann", "handler.registered"), ("api", "handler.removed")]


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("charge", {"url": "http://127.0.0.1/h"}, 400),
        ("charge", {"url": "http://169.254.169.254/"}, 400),
        ("charge", {"url": "ftp://example.com"}, 400),
        ("charge", {"url": "http://user:pass@example.com/"}, 400),
        ("charge", {"url": 5}, 422),
        ("charge", {"effect": "cash"}, 422),
        ("charge", {"timeout": "soon"}, 422),
        ("charge", {"timeout": {"months": 1}}, 400),
        ("noop", {}, 400),
    ],
)
def test_handler_that_may_not_be_is_refused(api: Api, name: str, body: Any, status: int) -> None:
    """Internal addresses and names of built-in handlers are not taken."""
    api.refused(status, "PUT", f"/handlers/{name}", body)


def test_rate_limit_of_an_operator_wins(api: Api) -> None:
    """What sequences state is listed; the operator's holds until it is taken back."""
    api.post("/sequences", LIMITED)
    path = "/rate-limits/stripe:charges"
    assert api.get(path)["max"] == 95
    answer = api.send("PUT", path, {"max": 10, "window_seconds": 0.5}, headers={"X-Actor": "ann"})
    assert (answer.status_code, answer.json["source"]) == (200, "operator")
    assert (answer.json["max"], answer.json["window_seconds"]) == (10, 0.5)
    listed = [(each["max"], each["effective"]) for each in api.get("/rate-limits")["items"]]
    assert listed == [(10, True), (95, False)]
    assert api.get("/rate-limits", headers={"X-Tenant-Id": "other"})["items"] == []
    assert api.send("DELETE", path).status_code == 204
    assert api.get(path)["max"] == 95
    api.refused(404, "DELETE", path)
    api.refused(404, "GET", "/rate-limits/nobody/knows")
    assert ("ann", "limit.changed") in api.rows("SELECT actor, action FROM audit_log")


def test_slack_is_stated_for_each_key(api: Api) -> None:
    """It is 20 ms unless an operator says otherwise, and workers count by it."""
    path, window = "/rate-limits/far-away", {"max": 10, "window_seconds": 1}
    assert api.send("PUT", path, {**window, "slack_seconds": 0.25}).json["slack_seconds"] == 0.25
    assert api.get(path)["slack_seconds"] == 0.25
    with api.office.begin() as tx:
        assert read_limits(tx).stated["default", "far-away"].slack == 0.25
    assert api.send("PUT", path, window).json["slack_seconds"] == 0.02


def test_more_keys_than_a_tenant_may_limit_are_refused(api: Api) -> None:
    """What is stated holds for every key, however many; the one too many is refused, aloud."""
    many = [Stated(f"item:{n}", 5, 60.0, 0.02, None) for n in range(10_100)]
    with api.office.begin() as tx:
        rate_limits.put(tx, "default", rate_limits.OPERATOR, many, most=10_100)
    with api.office.begin() as tx:
        assert len(api.office.limits(tx).stated) == 10_100
        rate_limits.put(tx, "default", rate_limits.OPERATOR, many[:3], most=10_100)
    one = Stated("one", 5, 60.0, 0.02, None)
    with pytest.raises(Conflict, match="10100 keys"), api.office.begin() as tx:
        rate_limits.put(tx, "default", rate_limits.OPERATOR, [one], most=10_100)
    shown = api.get("/rate-limits")
    assert (len(shown["items"]), shown["left_out"]) == (10_000, 100)
    with api.office.begin() as tx:
        rate_limits.put(tx, "other", rate_limits.OPERATOR, many[:1], most=1)


def test_limits_are_read_again_only_when_they_have_changed(api: Api) -> None:
    """Publishing, setting, taking back and deprecating each make another set of limits."""

    def now() -> Limits:
        api.office._limits_read_at -= LIMITS_REFRESH
        with api.office.begin() as tx:
            return api.office.limits(tx)

    seen = [now()]
    for change in (
        lambda: api.post("/sequences", LIMITED),
        lambda: api.send("PUT", "/rate-limits/stripe:charges", {"max": 1, "window_seconds": 1}),
        lambda: api.send("DELETE", "/rate-limits/stripe:charges"),
        lambda: api.rows("UPDATE sequences SET deprecated = true RETURNING id"),
    ):
        change()
        seen.append(now())
        assert seen[-1] is not seen[-2]
        assert now() is seen[-1]
    stated = [each.stated.get(("default", "stripe:charges")) for each in seen]
    assert [each and each.max for each in stated] == [None, 95, 1, 95, None]


def test_bound_of_calls_in_flight_holds_beside_a_window(api: Api) -> None:
    """Each is the operator's if he states it, else the smallest of the sequences."""
    step = {"type": "step", "handler": "charge", "max_in_flight": 8}
    api.post("/sequences", {"id": "one", "blocks": [step]})
    api.post("/sequences", {"id": "two", "blocks": [{**step, "max_in_flight": 4}]})
    path = "/rate-limits/handler:charge"
    found = api.get(path)
    assert (found["max"], found["window_seconds"], found["max_in_flight"]) == (None, None, 4)
    assert api.send("PUT", path, {"max": 10, "window_seconds": 1}).status_code == 200
    found = api.get(path)
    assert (found["max"], found["max_in_flight"], found["source"]) == (10, 4, "operator")
    assert api.send("PUT", path, {"max_in_flight": 20}).json["max_in_flight"] == 20
    items = api.get("/rate-limits")["items"]
    listed = [(each["max_in_flight"], each["effective"]) for each in items]
    assert sorted(listed) == [(4, False), (8, False), (20, True)]


def test_keys_without_a_limit_are_listed(api: Api) -> None:
    """What steps are called with while nobody states a limit, until somebody does."""
    with api.office.begin() as tx:
        fleet.count_unlimited(tx, [("default", "free", 2), ("default", "wild", 3)])
        fleet.count_unlimited(tx, [("default", "free", 2)])
    items = api.get("/rate-limits?state=unlimited")["items"]
    assert [(each["key"], each["calls"], each["max"]) for each in items] == [
        ("free", 4, None), ("wild", 3, None),
    ]  # fmt: skip
    assert 'orch8_rate_limit_unlimited_calls{key="free",tenant="default"} 4.0' in (
        api.send("GET", "/metrics").text
    )
    api.send("PUT", "/rate-limits/free", {"max": 1, "window_seconds": 1})
    assert [each["key"] for each in api.get("/rate-limits?state=unlimited")["items"]] == ["wild"]
    api.refused(400, "GET", "/rate-limits?state=other")


def test_rate_limit_key_may_hold_a_slash(api: Api) -> None:
    """A key is any text that a step can say."""
    assert (
        api.send("PUT", "/rate-limits/a/b c", {"max": 1, "window_seconds": 60}).status_code == 200
    )
    assert api.get("/rate-limits/a/b c")["key"] == "a/b c"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"max": 10}, 422),
        ({"max": 0, "window_seconds": 1}, 400),
        ({"max": 9.5, "window_seconds": 1}, 422),
        ({"max": 1, "window_seconds": 0}, 400),
        ({"max": 1, "window_seconds": 1e-9}, 400),
        ({"max": 1, "window_seconds": "1"}, 422),
        ({"max": 10**7, "window_seconds": 1}, 400),
        ({"window_seconds": 1, "max_in_flight": 2}, 422),
        ({"max_in_flight": 2, "slack_seconds": 0.1}, 422),
        ({"max": 1, "window_seconds": 1, "slack_seconds": 11}, 400),
        ({"max_in_flight": 0}, 400),
        ({"max_in_flight": 10**6}, 400),
        ({}, 400),
    ],
)
def test_rate_limit_that_cannot_be_kept_is_refused(api: Api, body: Any, status: int) -> None:
    """The limiter's own bounds hold when a limit is set, not when it is first used."""
    api.refused(status, "PUT", "/rate-limits/stripe:charges", body)


def test_clock_moves_in_development(postgres: Database) -> None:
    """Business time goes forward, by a span or to a moment, or faster; it never goes back."""
    with serving(postgres, dev=True) as api:
        before = datetime.fromisoformat(api.get("/clock")["now"])
        moved = api.post("/clock", {"advance": {"days": 40}}, status=200)
        assert datetime.fromisoformat(moved["now"]) - before >= timedelta(days=40)
        assert set(api.announced) == {"interactive", "renewal", "bulk", "backfill"}
        assert datetime.fromisoformat(moved["real"]) - before < timedelta(hours=1)
        faster = api.post("/clock", {"rate": 3600}, status=200)
        assert faster["rate"] == 3600.0
        later = (datetime.fromisoformat(faster["now"]) + timedelta(days=400)).isoformat()
        assert api.post("/clock", {"at": later}, status=200)["now"][:10] == later[:10]
        assert "cannot go back" in api.refused(400, "POST", "/clock", {"at": "2020-01-01"})["error"]
        api.refused(422, "POST", "/clock", {"advance": "soon"})


def test_clock_stands_still_in_production(api: Api) -> None:
    """Outside development mode there is no clock to read or move, and the answer says why."""
    assert "ORCH8_DEV" in api.refused(403, "POST", "/clock", {"advance": "1d"})["error"]
    assert "ORCH8_DEV" in api.refused(403, "GET", "/clock")["error"]
