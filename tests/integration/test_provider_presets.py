"""The personalities of the pretend provider, read by the evidence tables that orch8 has of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import InvalidArgument
from orch8.handlers.classify import classifier
from orch8.handlers.http import Call, Caller
from orch8.money.presets import preset
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.personalities import PERSONALITIES
from orch8.testing.provider import Provider
from tests.support.provider import fetch, push, request
from tests.support.stack import until

NAMES = sorted(set(PERSONALITIES) - {"none"})


def charge(provider: Provider, name: str, key: str, amount: int = 9900) -> Answer:
    """What orch8 makes of one charge when its step names this provider."""
    known = preset(name)
    assert known is not None
    assert known.key.header is not None
    headers = (("Content-Type", "application/json"), (known.key.header, key))
    body = b'{"params": {"amount": %d}, "instance_id": "i-%s"}' % (amount, key.encode())
    call = Call(
        provider.url + "/charge", body=body, headers=headers, classify=classifier(name), timeout=5
    )
    return Caller().call(call)


@pytest.mark.parametrize("name", NAMES)
def test_personality_keeps_keys_as_its_preset_says(name: str) -> None:
    """Header, life and replay of the pretended provider are those of the evidence table."""
    known, likeness = preset(name), PERSONALITIES[name]
    assert known is not None
    assert known.key.header is not None
    assert known.key.header.lower() == likeness.header
    assert known.key.replay == likeness.replay
    assert known.key.ttl in (None, likeness.key_ttl)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("do", "verdict"),
    [
        (Do.SUCCEED, "succeeded"),
        (Do.DECLINE, "declined"),
        (Do.PENDING, "pending"),
        (Do.REFUSE, "refused"),
        (Do.RATE_LIMIT, "failed_safe"),
        (Do.FAIL_BEFORE, "unknown"),
        (Do.FAIL_AFTER, "unknown"),
        (Do.COMMIT_THEN_GARBLE, "unknown"),
    ],
)
def test_answer_of_each_provider_is_understood(name: str, do: Do, verdict: str) -> None:
    """The same deed has the same verdict, however its provider words it."""
    with Provider(preset=name, rules=[Rule(do, times=1)]) as provider:
        assert charge(provider, name, "k").verdict == verdict


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"stripe_v2"}))
def test_customer_who_is_asked_is_understood(name: str) -> None:
    """What waits for the customer is told as that, where a provider knows such a thing."""
    with Provider(preset=name, rules=[Rule(Do.REQUIRES_ACTION)]) as provider:
        assert charge(provider, name, "k").verdict is Verdict.REQUIRES_ACTION


@pytest.mark.parametrize("name", NAMES)
def test_reference_is_found_in_each_answer(name: str) -> None:
    """The provider's reference of a charge is read from where the provider has it."""
    with Provider(preset=name) as provider:
        answer = charge(provider, name, "k")
        assert answer.evidence["provider_ref"] == answer.output["charge_id"]


@pytest.mark.parametrize("name", NAMES)
def test_request_in_flight_is_in_progress(name: str) -> None:
    """Two sends with one key at once: the second is told to wait, in each provider's own words."""
    rules = [Rule(delay_ms=300, times=1)]
    with Provider(preset=name, rules=rules) as provider, ThreadPoolExecutor(1) as pool:
        first = pool.submit(charge, provider, name, "k")
        until(lambda: provider.ledger.totals()["asked"] == 1, 5, "the first request")
        second = charge(provider, name, "k")
        assert first.result().verdict is Verdict.SUCCEEDED
        assert provider.ledger.totals()["charged"] == 1
    known = second.verdict is Verdict.IN_PROGRESS
    assert known or name in {"gocardless", "qonto"}, second  # they publish no such answer
    assert second.verdict in {Verdict.IN_PROGRESS, Verdict.UNKNOWN}


@pytest.mark.parametrize("name", NAMES)
def test_key_is_remembered_for_its_life(name: str) -> None:
    """A minute before its end a key brings back the charge, at its end it makes another."""
    with Provider(preset=name) as provider:
        first = charge(provider, name, "k")
        provider.ledger.set_clock(PERSONALITIES[name].key_ttl - 60)
        again = charge(provider, name, "k")
        assert again.verdict is Verdict.SUCCEEDED
        assert again.evidence["provider_ref"] == first.evidence["provider_ref"]
        assert provider.ledger.totals()["charged"] == 1
        provider.ledger.set_clock(PERSONALITIES[name].key_ttl)
        charge(provider, name, "k")
        assert provider.ledger.totals()["duplicates"] == 1


@pytest.mark.parametrize(
    ("name", "replayed", "effects"),
    [
        ("stripe_v1", "unknown", 1),
        ("adyen", "unknown", 1),
        ("stripe_v2", "succeeded", 2),
        ("checkout", "succeeded", 2),
        ("qonto", "succeeded", 2),
        ("gocardless", "succeeded", 1),
    ],
)
def test_error_that_hides_an_effect_comes_back_by_provider(
    name: str, replayed: str, effects: int
) -> None:
    """After a 500 that hid a charge the same key asks, charges again, or finds what exists."""
    rules = [Rule(Do.FAIL_AFTER, times=1, store_error=True)]
    with Provider(preset=name, rules=rules) as provider:
        assert charge(provider, name, "k").verdict is Verdict.UNKNOWN
        assert charge(provider, name, "k").verdict == replayed
        assert provider.ledger.totals()["charged"] == effects


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("stripe_v1", "unknown"), ("adyen", "succeeded"), ("qonto", "succeeded")],
)
def test_changed_request_under_one_key_by_provider(name: str, verdict: str) -> None:
    """Some providers notice another request under a known key, some answer the first."""
    with Provider(preset=name) as provider:
        charge(provider, name, "k")
        assert charge(provider, name, "k", amount=1).verdict == verdict
        assert provider.ledger.totals()["charged"] == 1


@pytest.mark.parametrize(
    ("name", "code", "path"),
    [
        ("stripe_v1", "expired_card", ("error", "decline_code")),
        ("adyen", "6", ("refusalReasonCode",)),
        ("checkout", "30041", ("response_code",)),
        ("none", "expired_card", ("decline_code",)),
    ],
)
def test_reason_of_a_decline_stands_where_the_provider_has_it(
    name: str, code: str, path: tuple[str, ...]
) -> None:
    """A script names the reason of a decline, which then stands in its usual place."""
    rules = [Rule(Do.DECLINE, decline_code=code)]
    with Provider(preset=name, rules=rules) as provider:
        push(provider, request("k"))
        (entry,) = fetch(provider.url + "/ledger?key=k")["entries"]
    found = entry["result"][1]
    for part in path:
        found = found[part]
    assert found == code


def test_unknown_personality_is_refused() -> None:
    """A name that nobody has is refused with those that there are."""
    with pytest.raises(InvalidArgument, match="stripe_v1"):
        Provider(preset="stripe")
