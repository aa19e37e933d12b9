"""The pretend provider: its keys, its book and its script, seen by the client that it is for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from orch8.engine.outcome import Verdict
from orch8.handlers.http import Caller
from orch8.handlers.wire import build_push
from orch8.testing.ledger import Replay
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider
from tests.support.provider import SECRET, fetch, push
from tests.support.stack import until


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def charged(provider: Provider, key: str) -> int:
    entry = provider.ledger.entry(key)
    return 0 if entry is None else int(entry["charged"])


def test_signed_provider_accepts_only_signed_pushes() -> None:
    """A handler that checks signatures takes ours and refuses unsigned requests."""
    with Provider(secrets=[SECRET]) as provider:
        assert push(provider, "k", secrets=[SECRET]).verdict is Verdict.SUCCEEDED
        assert push(provider, "k").verdict is Verdict.REFUSED


def test_key_in_flight_answers_409_and_is_unknown(provider: Provider) -> None:
    """A second dispatch beside the first is told so, and charges nothing."""
    provider.script.replace([Rule(delay_ms=400, times=1)])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(push, provider, "k")
        until(lambda: provider.ledger.totals()["asked"] == 1, 5, "the first request")
        second = push(provider, "k", dispatch=2)
        assert first.result().verdict is Verdict.SUCCEEDED
    assert second.verdict is Verdict.UNKNOWN
    assert second.evidence["http_status"] == 409
    assert charged(provider, "k") == 1


@pytest.mark.parametrize(
    ("replay", "second", "effects"),
    [
        (Replay.FIRST_RESULT, "unknown", 1),
        (Replay.ONLY_SUCCESS, "succeeded", 2),
        (Replay.NONE, "succeeded", 2),
    ],
)
def test_stored_error_is_replayed_by_the_kind_of_provider(
    replay: Replay, second: str, effects: int
) -> None:
    """Stripe v1 replays a stored 500; a provider that keeps only successes charges again."""
    with Provider(
        replay=replay, rules=[Rule(Do.FAIL_AFTER, times=1, store_error=True)]
    ) as provider:
        assert push(provider, "k").verdict is Verdict.UNKNOWN
        assert push(provider, "k").verdict == second
        assert charged(provider, "k") == effects
        assert provider.ledger.totals()["duplicates"] == effects - 1


def test_conflict_means_exists_answers_409_with_the_resource() -> None:
    """A provider like GoCardless says that the key's resource exists."""
    with Provider(replay=Replay.CONFLICT) as provider:
        first = push(provider, "k")
        second = push(provider, "k")
    assert second.verdict is Verdict.UNKNOWN
    assert second.error is not None
    links = second.error["details"]["error"]["links"]
    assert links["conflicting_resource_id"] == first.output["charge_id"]


def test_expired_key_charges_again_and_is_counted() -> None:
    """Past its lifetime a key protects nothing: the ledger shows the duplicate."""
    with Provider(key_ttl=0.0) as provider:
        push(provider, "k")
        push(provider, "k")
        totals = provider.ledger.totals()
    assert (totals["charged"], totals["duplicates"], totals["charged_twice"]) == (2, 1, 1)


def test_changed_parameters_under_one_key_are_refused(provider: Provider) -> None:
    """The provider notices when a key comes back with another request."""
    push(provider, "k")
    other = build_push(
        provider.url, "charge", b'{"params":{"amount":1}}', idempotency_key="k", dispatch=2,
        timeout=2, connect_timeout=2, max_response=9999,
    )  # fmt: skip
    answer = Caller().call(other)
    assert answer.verdict is Verdict.REFUSED
    assert answer.error is not None
    assert answer.error["code"] == "idempotency_error"
    assert provider.ledger.totals()["mismatches"] == 1


def test_peak_is_the_busiest_sliding_window(provider: Provider) -> None:
    """The ledger tells how many requests any window saw."""
    for n in range(5):
        push(provider, f"k{n}")
    assert provider.ledger.peak(60.0) == 5
    assert provider.ledger.peak(60.0, "other") == 0
    assert provider.ledger.peak(1e-9) == 1


def test_script_and_ledger_are_reached_over_http(provider: Provider) -> None:
    """Other processes script the provider and read its book."""
    rules = [{"do": "decline", "handler": "charge", "times": 1}]
    assert fetch(provider.url + "/script", "PUT", rules) == {"rules": 1}
    assert push(provider, "k").verdict is Verdict.DECLINED
    shown = fetch(provider.url + "/ledger?window=1&arrivals=1")
    assert shown["totals"]["declined"] == 1
    assert shown["entries"][0]["key"] == "k"
    assert len(shown["arrivals"]) == shown["peak"] == 1
    assert fetch(provider.url + "/ledger?key=k")["entries"][0]["subject"] == "instance-k/charge"
    assert fetch(provider.url + "/health") == {"status": "ok"}
