"""What people are told of rate limits from the command line, and how they set them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orch8.commands_limits import span
from tests.support.stub import Stub

ID = "019a0000-0000-7000-8000-000000000001"
AT, SOON = "2026-02-01T09:00:00Z", "2026-02-01T10:00:00Z"
IDLE: dict[str, Any] = {
    "tenant_id": "default", "key": "stripe:live:acct_1", "max": 100, "window_seconds": 1.0,
    "max_in_flight": None, "used": 12, "in_flight": 3, "blocked_seconds": 0.0, "waiting": 0,
    "waiting_by_lane": {}, "paused": 0, "drain_seconds": 0.0, "drains_at": None, "will_miss": 0,
    "misses": [],
}  # fmt: skip
MISS = {
    "instance_id": ID, "node_key": "charge[17]", "lane": "renewal", "misses": "send_window",
    "ends_at": AT, "turn_at": SOON,
}  # fmt: skip
BUSY = IDLE | {
    "key": "acquirer", "max": 95, "used": 95, "waiting": 100_000, "paused": 2, "will_miss": 3,
    "max_in_flight": 30, "waiting_by_lane": {"interactive": 1, "renewal": 99_999},
    "drain_seconds": 1053.4, "drains_at": SOON, "blocked_seconds": 4.5, "misses": [MISS],
}  # fmt: skip
AWAY = IDLE | {"used": None, "in_flight": None, "blocked_seconds": None}
STRIPE = {
    "name": "stripe", "title": "Stripe", "account": "account id", "checked": "2026-11-22",
    "source": "https://docs.stripe.com/rate-limits", "note": "And more.",
    "limits": [
        {"key": "stripe:{mode}:{account}", "covers": "all", "each": None,
         "live": {"max": 100, "window_seconds": 1.0, "max_in_flight": None},
         "test": {"max": 25, "window_seconds": 1.0, "max_in_flight": None}},
        {"key": "stripe:{mode}:{account}:payouts", "covers": "payouts", "each": None,
         "live": {"max": 15, "window_seconds": 1.0, "max_in_flight": 30}, "test": None},
        {"key": "stripe:{mode}:{account}:{subscription}", "covers": "its updates",
         "each": "subscription",
         "live": {"max": 200, "window_seconds": 3600.0, "max_in_flight": None}, "test": None},
    ],
}  # fmt: skip
PRESETS = {"version": 1, "items": [STRIPE]}


def lines(text: str) -> list[str]:
    """The lines of an answer, spaces made single."""
    return [" ".join(line.split()) for line in text.splitlines()]


# -- what there is ---------------------------------------------------------------------------
def test_empty_list_says_how_to_begin(stub: Stub) -> None:
    """One line with the two commands that help."""
    stub.says("/rate-limits/forecast", {"items": []})
    done = stub.run("limits")
    assert done.exit_code == 0, done.output
    assert "orch8 limits presets" in done.output
    assert "orch8 limits set KEY" in done.output


def test_list_tells_how_full_each_key_is(stub: Stub) -> None:
    """A row for each key; what is nothing is left empty, what is not known is a question mark."""
    stub.says("/rate-limits/forecast", {"items": [BUSY, IDLE, AWAY]})
    _, busy, idle, away = lines(stub.run("limits").output)
    assert busy == (
        "acquirer 95 in 1s, 30 at a time 95, 3 in flight, blocked for 4.5s 100000 17m 33s 3"
    )
    assert idle == "stripe:live:acct_1 100 in 1s 12"
    assert away == "stripe:live:acct_1 100 in 1s ?"
    stub.says("/rate-limits/forecast", {"items": [BUSY, IDLE | {"tenant_id": "acme"}]})
    assert lines(stub.run("limits").output)[2].startswith("acme stripe:live:acct_1 100 in 1s")
    as_json = stub.run("limits", "--json").output
    assert json.loads(as_json)["items"][0]["waiting"] == 100_000


def test_one_key_is_shown_with_those_who_come_too_late(stub: Stub) -> None:
    """By lane, with what they miss and when; how many more there are."""
    stub.says("/rate-limits/forecast?key=acquirer", {"items": [BUSY]})
    done = stub.run("limits", "show", "acquirer")
    told = lines(done.output)
    for line in (
        "limit: 95 in 1s, 30 at a time",
        "waiting: 1 interactive, 99999 renewal",
        f"drains at: {SOON}, in 17m 33s",
        "paused: 2",
        "will miss: 3",
        f"{ID} charge[17] renewal send_window {AT} {SOON}",
        "and 2 more",
    ):
        assert line in told, done.output
    stub.says("/rate-limits/forecast?key=a%2Fb", {"items": [IDLE]})
    assert "waiting: nobody" in lines(stub.run("limits", "show", "a/b").output)


def test_keys_that_are_left_out_are_counted(stub: Stub) -> None:
    """The list ends with how many more there are."""
    stub.says("/rate-limits/forecast", {"items": [IDLE], "left_out": 7})
    assert lines(stub.run("limits").output)[-1].startswith("and 7 more; ")


# -- setting them ----------------------------------------------------------------------------
def test_limit_is_set_with_who_sets_it(stub: Stub) -> None:
    """The window is a second if none is said; the answer shows what holds."""
    stub.says("/rate-limits/stripe%3Acharges", IDLE)
    done = stub.run("limits", "set", "stripe:charges", "--max", "95", "--as", "maria")
    assert done.output == "stripe:charges: 100 in 1s\n"
    body = {"max": 95, "window_seconds": 1.0}
    assert stub.asked == [("PUT", "/api/v1/rate-limits/stripe%3Acharges", body)]
    assert stub.headers["x-actor"] == "maria"
    stub.run("limits", "set", "stripe:charges", "--max", "95", "--slack", "0.05")
    assert stub.asked[-1][2] == body | {"slack_seconds": 0.05}
    stub.run("limits", "set", "stripe:charges", "--max-in-flight", "30")
    assert stub.asked[-1][2] == {"max_in_flight": 30}
    assert stub.headers["x-actor"] == "cli"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--window", "1"),
        ("--max-in-flight", "3", "--window", "1"),
        ("--max-in-flight", "3", "--slack", "0.1"),
    ],
)
def test_limit_without_a_number_is_refused(stub: Stub, options: tuple[str, ...]) -> None:
    """Nothing is sent, and the message says what to write."""
    done = stub.run("limits", "set", "k", *options)
    assert done.exit_code == 1
    assert "--max 95 --window 1" in done.output
    assert stub.asked == []


def test_limit_is_taken_back(stub: Stub) -> None:
    """The answer has no body."""
    stub.says("/rate-limits/k", b"", 200)
    done = stub.run("limits", "unset", "k")
    assert done.output == "k: what sequences say holds again\n"
    assert stub.asked[0][0] == "DELETE"


# -- presets ---------------------------------------------------------------------------------
def test_presets_are_listed_with_their_sources(stub: Stub) -> None:
    """All of them in a line each, one of them in full."""
    stub.says("/rate-limits/presets", PRESETS)
    _, row = lines(stub.run("limits", "presets").output)
    assert row == "stripe Stripe 3 2026-11-22 https://docs.stripe.com/rate-limits"
    told = lines(stub.run("limits", "presets", "stripe").output)
    assert "stripe:{mode}:{account}:payouts 15 in 1s, 30 at a time payouts" in told
    assert told[-1] == "And more."
    one = json.loads(stub.run("limits", "presets", "stripe", "--json").output)
    assert [each["name"] for each in one["items"]] == ["stripe"]


def test_preset_is_applied_to_an_account(stub: Stub) -> None:
    """One row for each limit of the account; what each object has for itself is left to steps."""
    stub.says("/rate-limits/presets", PRESETS)
    stub.says("/rate-limits/stripe%3Alive%3Aacct_1", IDLE)
    stub.says("/rate-limits/stripe%3Alive%3Aacct_1%3Apayouts", IDLE | {"key": "payouts"})
    done = stub.run("limits", "apply", "stripe", "--account", "acct_1", "--as", "maria")
    assert done.exit_code == 0, done.output
    puts = [body for method, _, body in stub.asked if method == "PUT"]
    assert puts == [
        {"max": 100, "window_seconds": 1.0},
        {"max": 15, "window_seconds": 1.0, "max_in_flight": 30},
    ]
    assert stub.headers["x-actor"] == "maria"
    assert "each subscription has its own" in done.output
    assert "checked 2026-11-22" in done.output


def test_preset_of_the_test_mode_has_its_own_keys(stub: Stub) -> None:
    """What the provider publishes no number for is not set."""
    stub.says("/rate-limits/presets", PRESETS)
    stub.says("/rate-limits/stripe%3Atest%3Aacct_1", IDLE)
    done = stub.run("limits", "apply", "stripe", "--account", "acct_1", "--test", "--json")
    assert len(json.loads(done.output)["items"]) == 1
    assert stub.asked[-1][2] == {"max": 25, "window_seconds": 1.0}


def test_unknown_provider_is_told_those_that_are_known(stub: Stub) -> None:
    """Nothing is set."""
    stub.says("/rate-limits/presets", PRESETS)
    done = stub.run("limits", "apply", "adyen", "--account", "a")
    assert done.exit_code == 1
    assert "only of stripe" in done.output


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.5, "0.5s"), (1.0, "1s"), (59.6, "59.6s"), (60, "1m"), (1053.4, "17m 33s"), (3600, "1h"),
     (86_399.9, "1d"), (187_200, "2d 4h")],
)  # fmt: skip
def test_spans_are_told_in_two_units(seconds: float, told: str) -> None:
    """Enough to decide by."""
    assert span(seconds) == told
