"""The pretend provider's webhooks: what they say, how they are signed, and how they go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orch8.engine.outcome import Verdict
from orch8.handlers.wire import verify
from orch8.testing.misbehaviour import Becomes, Do, Rule
from orch8.testing.provider import Provider
from orch8.testing.webhooks import Format, Target
from tests.support.provider import SECRET, Ear, fetch, push, send
from tests.support.stack import until


@pytest.fixture
def ear() -> Iterator[Ear]:
    with Ear() as listening:
        yield listening


@pytest.fixture
def provider(ear: Ear) -> Iterator[Provider]:
    with Provider(webhooks=Target(ear.url, SECRET)) as running:
        yield running


def settled(provider: Provider) -> dict[str, Any]:
    """What GET /webhooks shows when nothing is on its way any more."""
    until(lambda: fetch(provider.url + "/webhooks")["waiting"] == 0, 5, "all webhooks")
    shown: dict[str, Any] = fetch(provider.url + "/webhooks")
    return shown


def test_charge_is_announced_with_a_signature(provider: Provider, ear: Ear) -> None:
    """Every charge has its event, signed by Standard Webhooks under the event's id."""
    answer = push(provider, "k")
    (heard,) = ear.wait(1)
    assert verify(heard.headers, heard.raw, [SECRET])
    assert heard.headers["webhook-id"] == heard.body["id"]
    assert heard.body["type"] == "charge.succeeded"
    assert heard.body["created"] == pytest.approx(provider.ledger.now(), abs=30)
    assert heard.body["data"] == {
        "idempotency_key": "k", "charge_id": answer.output["charge_id"], "status": "succeeded",
        "outcome": "succeeded", "amount": 9900, "currency": "usd",
    }  # fmt: skip


def test_replay_is_not_announced(provider: Provider, ear: Ear) -> None:
    """An event tells of an effect: a replay and a refusal have none."""
    push(provider, "k")
    push(provider, "k")
    provider.script.replace([Rule(Do.REFUSE, times=1)])
    push(provider, "refused")
    assert settled(provider)["announced"] == 1
    assert len(ear.heard()) == 1


@pytest.mark.parametrize("do", [Do.COMMIT_THEN_HANG_UP, Do.FAIL_AFTER, Do.COMMIT_THEN_GARBLE])
def test_lost_answer_is_announced(provider: Provider, ear: Ear, do: Do) -> None:
    """Of a charge whose answer is lost the webhook still tells."""
    provider.script.replace([Rule(do)])
    assert push(provider, "k").verdict is Verdict.UNKNOWN
    assert ear.types(1) == ["charge.succeeded"]


def test_decline_is_announced_as_a_failure(provider: Provider, ear: Ear) -> None:
    """A decline is charge.failed with the outcome declined."""
    provider.script.replace([Rule(Do.DECLINE)])
    push(provider, "k")
    (heard,) = ear.wait(1)
    assert (heard.body["type"], heard.body["data"]["outcome"]) == ("charge.failed", "declined")


def test_pending_payment_is_announced_twice(provider: Provider, ear: Ear) -> None:
    """A payment that is pending first has an event for each of its turns."""
    rule = Rule(Do.PENDING, becomes=Becomes.DECLINE, becomes_ms=50)
    provider.script.replace([rule])
    push(provider, "k")
    assert ear.types(2) == ["charge.pending", "charge.failed"]
    assert provider.ledger.totals()["declined"] == 1


def test_orch8_format_is_the_word_about_an_attempt(ear: Ear) -> None:
    """The other format is the body that orch8 takes as evidence, with headers that it wants."""
    target = Target(
        ear.url, format=Format.ORCH8, headers={"X-Api-Key": "secret"}, source="reconcile"
    )
    with Provider(webhooks=target) as provider:
        answer = push(provider, "k")
        (heard,) = ear.wait(1)
    assert heard.headers["x-api-key"] == "secret"
    assert "webhook-signature" not in heard.headers
    assert heard.body == {
        "idempotency_key": "k", "outcome": "succeeded", "source": "reconcile",
        "provider_ref": answer.output["charge_id"], "output": answer.output,
        "event_id": heard.headers["webhook-id"],
    }  # fmt: skip


def test_orch8_format_says_nothing_of_pending(ear: Ear) -> None:
    """Orch8 takes words that settle an attempt: of a pending payment it hears the end."""
    rules = [Rule(Do.PENDING, becomes=Becomes.SUCCEED)]
    with Provider(webhooks=Target(ear.url, format=Format.ORCH8), rules=rules) as provider:
        push(provider, "k")
        assert ear.wait(1)[0].body["outcome"] == "succeeded"
        assert settled(provider)["announced"] == 1


def test_duplicates_have_one_id(provider: Provider, ear: Ear) -> None:
    """A duplicated webhook is the same event, however often it comes."""
    provider.script.replace([Rule(Do.WEBHOOK_DUPLICATE, copies=5)])
    push(provider, "k")
    assert len({heard.body["id"] for heard in ear.wait(5)}) == 1
    assert settled(provider)["delivered"] == 5


@pytest.mark.parametrize(
    ("do", "types"),
    [
        (Do.WEBHOOK_CONTRARY_FIRST, ["charge.failed", "charge.succeeded"]),
        (Do.WEBHOOK_CONTRARY_LAST, ["charge.succeeded", "charge.failed"]),
        (Do.WEBHOOK_OUT_OF_ORDER, ["charge.succeeded", "charge.pending"]),
    ],
)
def test_contrary_words_are_two_events(
    provider: Provider, ear: Ear, do: Do, types: list[str]
) -> None:
    """Two events that disagree come in the order that the rule names, with ids of their own."""
    provider.script.replace([Rule(do)])
    push(provider, "k")
    assert ear.types(2) == types
    first, second = (heard.body for heard in ear.wait(2))
    assert first["id"] != second["id"]
    assert (first["created"] > second["created"]) is (do is Do.WEBHOOK_OUT_OF_ORDER)
    assert first["data"]["charge_id"] == second["data"]["charge_id"]
    assert provider.ledger.totals()["charged"] == 1


def test_contrary_word_of_a_decline_is_a_success(provider: Provider, ear: Ear) -> None:
    """Hyperswitch's worst case: told as failed, and then as succeeded, or the other way."""
    provider.script.replace([Rule(Do.DECLINE), Rule(Do.WEBHOOK_CONTRARY_LAST)])
    push(provider, "k")
    assert ear.types(2) == ["charge.failed", "charge.succeeded"]
    assert provider.ledger.totals()["charged"] == 0


def test_late_webhook_comes_after_the_others(provider: Provider, ear: Ear) -> None:
    """A webhook that is late is overtaken by one that is not."""
    provider.script.replace([Rule(Do.WEBHOOK_LATE, key="late", delay_ms=400)])
    push(provider, "late")
    push(provider, "swift")
    keys = [heard.body["data"]["idempotency_key"] for heard in ear.wait(2)]
    assert keys == ["swift", "late"]


def test_webhook_that_is_never_sent_is_counted(provider: Provider, ear: Ear) -> None:
    """Silence is a deed like any other: rules for calls and for webhooks go side by side."""
    provider.script.replace([Rule(Do.WEBHOOK_NEVER, key="mute"), Rule(Do.DECLINE)])
    assert push(provider, "mute").verdict is Verdict.DECLINED
    push(provider, "other")
    shown = settled(provider)
    assert (shown["never"], shown["announced"], shown["delivered"]) == (1, 1, 1)
    assert [heard.body["data"]["idempotency_key"] for heard in ear.heard()] == ["other"]


def test_receiver_that_fails_is_tried_again() -> None:
    """A delivery without a 2xx comes again with the same id, after a time-out as after a 500."""
    with Ear(500, 302, 0) as ear, Provider() as provider:
        aimed = {"url": ear.url, "secret": SECRET, "backoff_ms": 1, "timeout_ms": 200}
        fetch(provider.url + "/webhooks", "PUT", aimed)
        push(provider, "k")
        heard = ear.wait(4)
        shown = settled(provider)
        assert len({one.headers["webhook-id"] for one in heard}) == 1
        assert all(verify(one.headers, one.raw, [SECRET]) for one in heard)
        assert (shown["delivered"], shown["failed"], shown["given_up"]) == (1, 3, 0)
        assert [line["status"] for line in shown["sends"]] == [500, 302, None, 200]


@pytest.mark.parametrize(("statuses", "sends"), [((500,) * 9, 3), ((410,), 1)])
def test_deliveries_are_bounded(statuses: tuple[int, ...], sends: int) -> None:
    """After the last try, or when the receiver says that it is gone, nothing more is sent."""
    with Ear(*statuses) as ear:
        with Provider(webhooks=Target(ear.url, tries=3, backoff_ms=1)) as provider:
            push(provider, "k")
            shown = settled(provider)
        assert (shown["given_up"], shown["delivered"]) == (1, 0)
        assert len(ear.heard()) == sends


def test_webhooks_can_be_turned_off(provider: Provider, ear: Ear) -> None:
    """Without a target nothing is announced; the secret is never shown."""
    assert SECRET not in str(fetch(provider.url + "/webhooks"))
    assert fetch(provider.url + "/webhooks", "PUT", {"url": None}) == {"target": None}
    push(provider, "k")
    assert fetch(provider.url + "/webhooks")["announced"] == 0
    assert ear.heard() == []


def test_provider_that_closes_sends_nothing_more(ear: Ear) -> None:
    """What still waits when the provider ends is not sent: its threads end with it."""
    with Provider(webhooks=Target(ear.url), rules=[Rule(Do.WEBHOOK_LATE, delay_ms=60_000)]) as one:
        push(one, "k")
    assert ear.heard() == []
    assert one.webhooks.shown()["waiting"] == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "url"),
        ({}, "url"),
        ({"url": "ftp://x"}, "url"),
        ({"url": 3}, "url"),
        ({"url": "http://x", "secret": "s"}, "secret"),
        ({"url": "http://x", "secret": 3}, "secret"),
        ({"url": "http://x", "format": "xml"}, "format"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "headers"),
        ({"url": "http://x", "headers": {"a": "b\nc"}}, "headers"),
        ({"url": "http://x", "headers": ["a"]}, "headers"),
        ({"url": "http://x", "tries": 0}, "tries"),
        ({"url": "http://x", "tries": 1.5}, "tries"),
        ({"url": "http://x", "timeout_ms": "1"}, "timeout_ms"),
        ({"url": "http://x", "source": ""}, "source"),
        ({"url": "http://x", "uri": 1}, "uri"),
    ],
)
def test_target_that_makes_no_sense_is_refused(
    provider: Provider, body: object, named: str
) -> None:
    """A wrong target is a 400 that names the member, and the old one stays."""
    status, answer = send(provider.url + "/webhooks", "PUT", body)
    assert (status, answer["error"]["code"]) == (400, "bad_webhooks")
    assert named in answer["error"]["message"]
    assert fetch(provider.url + "/webhooks")["target"] is not None
