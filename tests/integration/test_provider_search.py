"""The pretend provider's search: what became of a charge, seen late, wrongly or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.http import Caller
from orch8.handlers.wire import build_push
from orch8.testing.misbehaviour import Becomes, Do, Rule
from orch8.testing.provider import Provider
from tests.support.provider import SECRET, fetch, push, request, send
from tests.support.stack import until

NOTHING = {"found": "no", "outcome": None, "provider_ref": None, "output": None}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def find(provider: Provider, key: str) -> Any:
    """What the search says of a key when orch8 asks it about an attempt."""
    body = {"params": {}, "attempt": {"idempotency_key": key}, "idempotency_key": key}
    return fetch(provider.url + "/find_charge", "POST", body)


def test_search_tells_what_was_charged(provider: Provider) -> None:
    """The answer has the reference and the very output that the lost answer had."""
    provider.script.replace([Rule(Do.COMMIT_THEN_HANG_UP)])
    push(provider, "k")
    found = find(provider, "k")
    assert (found["found"], found["outcome"]) == ("yes", "succeeded")
    entry = provider.ledger.entry("k")
    assert entry is not None
    assert found["output"] == entry["result"][1]
    assert found["provider_ref"] == entry["charges"][0]["charge_id"]
    assert entry["searched"] == 1
    assert fetch(provider.url + "/charges?idempotency_key=k") == found


@pytest.mark.parametrize(
    ("do", "outcome"),
    [
        (Do.DECLINE, "declined"),
        (Do.DECLINE_402, "declined"),
        (Do.PENDING, "pending"),
        (Do.REQUIRES_ACTION, "requires_action"),
    ],
)
def test_search_tells_every_outcome(provider: Provider, do: Do, outcome: str) -> None:
    """What was made is found, whatever came of it."""
    provider.script.replace([Rule(do)])
    push(provider, "k")
    assert find(provider, "k")["outcome"] == outcome


@pytest.mark.parametrize("do", [Do.HANG_UP, Do.FAIL_BEFORE, Do.REFUSE, Do.RATE_LIMIT])
def test_search_finds_nothing_where_nothing_was_done(provider: Provider, do: Do) -> None:
    """A call without an effect is not found, and a search is no call: it makes no entry."""
    provider.script.replace([Rule(do)])
    push(provider, "k")
    assert find(provider, "k") == NOTHING
    assert find(provider, "never sent") == NOTHING
    totals = provider.ledger.totals()
    assert (totals["keys"], totals["asked"], totals["searched"]) == (1, 1, 2)


def test_search_is_behind_by_its_lag() -> None:
    """A charge that is younger than the lag is not found: the clock makes it old enough."""
    with Provider(search_lag=3600) as provider:
        answer = push(provider, "k")
        assert find(provider, "k") == NOTHING
        fetch(provider.url + "/clock", "PUT", {"offset_seconds": 3600})
        assert find(provider, "k")["found"] == "yes"
        charge_id = answer.output["charge_id"]
        assert fetch(f"{provider.url}/charges/{charge_id}")["outcome"] == "succeeded"


def test_search_shows_an_old_state_of_a_charge() -> None:
    """What is behind shows the payment as pending when it has already succeeded."""
    with Provider(
        search_lag=3600, rules=[Rule(Do.PENDING, becomes=Becomes.SUCCEED, becomes_ms=200)]
    ) as provider:
        push(provider, "k")
        fetch(provider.url + "/clock", "PUT", {"offset_seconds": 3600})
        assert find(provider, "k")["outcome"] == "pending"
        until(lambda: provider.ledger.totals()["charged"] == 1, 5, "the charge")
        assert find(provider, "k")["outcome"] == "pending"
        fetch(provider.url + "/clock", "PUT", {"offset_seconds": 7200})
        assert find(provider, "k")["outcome"] == "succeeded"


def test_money_that_moved_is_found_before_a_decline(provider: Provider) -> None:
    """Of several charges under one key the one that succeeded is told."""
    provider.script.replace([Rule(times=1), Rule(Do.DECLINE)])
    push(provider, "k")
    provider.ledger.set_clock(2 * 86_400)
    push(provider, "k")
    assert provider.ledger.totals()["declined"] == 1
    assert find(provider, "k")["outcome"] == "succeeded"


def ask(provider: Provider, key: str, timeout: float = 5.0) -> Answer:
    call = build_push(
        provider.url, "find_charge", b'{"attempt":{"idempotency_key":"%s"}}' % key.encode(),
        idempotency_key="of-the-search", dispatch=1, timeout=timeout, connect_timeout=2,
        max_response=9999,
    )  # fmt: skip
    return Caller().call(call)


def test_search_fails_by_the_script(provider: Provider) -> None:
    """A search fails, hangs and cannot tell for as many times as its rules say."""
    push(provider, "k")
    provider.script.replace(
        [
            Rule(Do.SEARCH_FAIL, times=1),
            Rule(Do.SEARCH_TIME_OUT, times=1),
            Rule(Do.SEARCH_CANNOT_TELL, times=2),
            Rule(Do.SEARCH_MISS, handler="find_charge", key="k", times=1),
            Rule(Do.SEARCH_LAG, times=1, delay_ms=600_000),
        ]
    )
    failed = ask(provider, "k")
    assert (failed.verdict, failed.evidence["http_status"]) == (Verdict.UNKNOWN, 500)
    assert ask(provider, "k", timeout=0.2).evidence["curl_code"] == 28
    found = [ask(provider, "k").output["found"] for _ in range(5)]
    assert found == ["cannot_tell", "cannot_tell", "no", "no", "yes"]


def test_search_key_stands_in_the_params_too(provider: Provider) -> None:
    """A read handler of one's own may pass the key on as a parameter."""
    push(provider, "k")
    for params in ({"idempotency_key": "k"}, {"attempt": {"idempotency_key": "k"}}):
        body = {"params": params, "idempotency_key": "of-the-search"}
        assert fetch(provider.url + "/v1/find_refund", "POST", body)["found"] == "yes"


def test_search_without_a_key_is_refused(provider: Provider) -> None:
    """A search that names no key gets a 400 that says where it belongs."""
    for body in ({}, {"idempotency_key": "k"}, [], {"attempt": {"idempotency_key": 3}}):
        status, answer = send(provider.url + "/find_charge", "POST", body)
        assert status == 400
        assert "attempt.idempotency_key" in answer["error"]["message"]
    assert send(provider.url + "/charges")[0] == 400
    assert send(provider.url + "/charges/ch_none")[0] == 404


def test_search_of_a_signed_provider_wants_a_signature() -> None:
    """Secrets guard the search as they guard the charge."""
    with Provider(secrets=[SECRET]) as provider:
        asked = request("k", handler="find_charge")
        assert push(provider, asked).verdict is Verdict.REFUSED
