"""What the codes of a decline come to, by the built-in policy and by an operator's."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orch8.errors import ConfigurationError
from orch8.money.decline import (
    STRICTNESS,
    DeclineClass,
    Policy,
    built_in,
    classify,
    read_policy,
)
from orch8.runtime.declines import policy_at

HARD, SOFT, FRAUD = DeclineClass.HARD, DeclineClass.SOFT, DeclineClass.FRAUD
CUSTOMER, TECHNICAL = DeclineClass.NEEDS_CUSTOMER, DeclineClass.TECHNICAL
EXAMPLE: dict[str, list[str]] = {
    "hard": ["incorrect_number", "lost_card", "stolen_card", "pickup_card", "stop_payment_order",
             "revocation_of_authorization", "transaction_not_allowed", "restricted_card"],
    "needs_customer": ["authentication_required", "expired_card", "incorrect_cvc",
                       "invalid_expiry_year", "pin_try_exceeded"],
    "fraud": ["fraudulent", "highest_risk_level"],
    "soft": ["insufficient_funds", "do_not_honor", "generic_decline", "card_velocity_exceeded"],
    "technical": ["processing_error", "issuer_not_available", "reenter_transaction"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("klass", "code"), [(klass, code) for klass, codes in EXAMPLE.items() for code in codes]
)
def test_stripe_code_has_its_class(klass: str, code: str) -> None:
    """A Stripe error means what its decline_code says, not its generic code."""
    body = {"error": {"code": "card_declined", "decline_code": code}}
    found = classify(body, None, "stripe_v1")
    assert (found.klass, found.code, found.known) == (klass, code, True)


@pytest.mark.parametrize(
    ("body", "network", "klass", "never"),
    [
        ({"network_decline_code": "04"}, "visa", HARD, True),
        ({"network_decline_code": "43"}, "visa", HARD, True),
        ({"network_decline_code": "R1"}, "visa", HARD, True),
        ({"network_decline_code": "r3"}, "visa", HARD, True),
        ({"network_decline_code": "05"}, "visa", SOFT, False),
        ({"network_decline_code": 5}, "visa", SOFT, False),
        ({"network_decline_code": "14"}, "visa", HARD, False),
        ({"network_decline_code": "51"}, "mastercard", SOFT, False),
        ({"network_decline_code": "54"}, "visa", CUSTOMER, False),
        ({"network_decline_code": "1A"}, "visa", CUSTOMER, False),
        ({"network_decline_code": "70"}, "visa", CUSTOMER, False),
        ({"network_decline_code": "62"}, "visa", SOFT, False),
        ({"network_decline_code": "62"}, "mastercard", HARD, False),
        ({"network_decline_code": "62"}, None, HARD, False),
        ({"network_decline_code": "91"}, "mastercard", TECHNICAL, False),
        ({"visa_category": 1}, "visa", HARD, True),
        ({"visa_category": "3"}, None, CUSTOMER, False),
        ({"additionalData": {"refusalReasonRaw": "51 : Insufficient funds"}}, None, SOFT, False),
        ({"raw": {"networkResponseCode": "59"}}, "visa", FRAUD, False),
        ({"network_advice_code": "1"}, "visa", HARD, True),
    ],
)
def test_network_code_has_its_class(
    body: Any, network: str | None, klass: DeclineClass, never: bool
) -> None:
    """Raw codes mean what their network says; of an unknown network the strictest meaning holds."""
    found = built_in().classify(body, network=network)
    assert (found.klass, found.never) == (klass, never)


@pytest.mark.parametrize(
    ("advice", "klass", "after"),
    [
        ("01", CUSTOMER, None),
        ("02", SOFT, timedelta(hours=72)),
        ("03", HARD, None),
        ("04", TECHNICAL, None),
        ("21", HARD, None),
        ("22", HARD, None),
        ("24", SOFT, timedelta(hours=1)),
        ("25", SOFT, timedelta(hours=24)),
        ("26", SOFT, timedelta(days=2)),
        ("27", SOFT, timedelta(days=4)),
        ("28", SOFT, timedelta(days=6)),
        ("29", SOFT, timedelta(days=8)),
        ("30", SOFT, timedelta(days=10)),
        ("40", CUSTOMER, None),
        ("41", HARD, None),
        ("42", FRAUD, None),
        ("43", SOFT, None),
    ],
)
def test_mastercard_advice_says_when(
    advice: str, klass: DeclineClass, after: timedelta | None
) -> None:
    """A merchant advice code says whether to try again, and the earliest when."""
    found = classify({"merchantAdviceCode": f"{advice} : text"}, None, None)
    assert (found.klass, found.advice, found.earliest_retry_after) == (klass, advice, after)
    assert found.never is (advice in ("03", "21"))


@pytest.mark.parametrize(
    ("code", "klass"), [("12", SOFT), ("5", HARD), ("6", CUSTOMER), ("20", FRAUD), ("9", TECHNICAL)]
)
def test_adyen_reason_is_read_under_its_own_name_only(code: str, klass: DeclineClass) -> None:
    """A bare number is Adyen's where Adyen puts it; elsewhere it is a raw network code."""
    assert classify({"refusalReasonCode": code}, None, None).klass is klass
    assert classify({"code": "6"}, None, None).known is False
    assert classify({"refusalReasonCode": "99"}, None, None).known is False


@pytest.mark.parametrize(
    ("code", "klass"), [("R01", SOFT), ("R02", HARD), ("R10", HARD), ("R08", CUSTOMER)]
)
def test_ach_return_has_its_class(code: str, klass: DeclineClass) -> None:
    """A return code is known under its own name and as the code of an answer."""
    assert classify({"return_code": code}, None, None).klass is klass
    assert classify({"code": code}, None, None).klass is klass


def test_strictest_of_several_codes_holds() -> None:
    """Funds may come another day, but the network says never: it is never."""
    body = {"decline_code": "insufficient_funds", "network_advice_code": "03"}
    found = classify(body, None, "stripe")
    assert (found.klass, found.never, found.retriable) == (HARD, True, False)
    assert found.earliest_retry_after is None


def test_order_of_strictness_is_that_of_what_is_forbidden() -> None:
    """fraud stops every instrument, hard one, needs_customer for a while, soft a day, technical
    hardly.
    """
    assert STRICTNESS == (FRAUD, HARD, CUSTOMER, SOFT, TECHNICAL)


def test_longest_wait_holds_beside_a_soft_code() -> None:
    """A soft code without a wait and advice with one come to soft with that wait."""
    body = {"decline_code": "do_not_honor", "network_advice_code": "27"}
    assert classify(body, None, "stripe").earliest_retry_after == timedelta(days=4)


def test_stripe_advice_in_words_is_heard() -> None:
    """Stripe's own advice makes a soft decline hard."""
    error = {"decline_code": "generic_decline", "advice_code": "do_not_try_again"}
    assert classify({"error": error}, None, "stripe").klass is HARD


def test_known_code_speaks_where_the_provider_code_is_unknown() -> None:
    """An unknown provider code beside a known network code does not make the decline unknown."""
    found = classify({"code": "gw_17", "network_decline_code": "41"}, None, None)
    assert (found.klass, found.code, found.known) == (HARD, "gw_17", True)


def test_code_of_the_error_counts_when_the_body_has_none() -> None:
    """What the engine kept as the error's code is a provider code as well."""
    assert classify(None, {"message": "no", "code": "expired_card"}, None).klass is CUSTOMER


@pytest.mark.parametrize("body", [None, 7, [], "declined", {}, {"code": True}, {"error": "no"}])
def test_answer_without_a_code_is_unknown(body: Any) -> None:
    """Whatever an answer looks like, it comes to a class."""
    found = classify(body, None, None)
    assert (found.klass, found.code, found.known) == (SOFT, None, False)


def test_second_unknown_decline_in_a_row_needs_the_customer() -> None:
    """A code that nobody knows is tried once more, and then not blindly again."""
    policy = built_in()
    assert policy.classify({"code": "zz9"}, unknown_before=0).klass is SOFT
    assert policy.classify({"code": "zz9"}, unknown_before=1).klass is CUSTOMER


def test_every_built_in_entry_has_a_source_and_a_date() -> None:
    """Nothing in the policy is hearsay."""
    text = Path(__file__).parents[2] / "orch8/money/data/decline_policy.json"
    given = json.loads(text.read_text())
    assert {each["source"] for each in given["entries"]} <= given["sources"].keys()
    assert all(each.checked.startswith("20") for each in built_in().entries.values())
    assert len(built_in().entries) == sum(len(each["codes"]) for each in given["entries"])


ENTRY = {"field": "provider", "of": "stripe", "class": "hard", "codes": ["do_not_honor"],
         "source": "ours", "checked": "2026-11-22"}  # fmt: skip


def test_operators_entries_win_over_the_built_in(tmp_path: Path) -> None:
    """A policy file is laid over the built-in policy: what it does not mention stays."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"entries": [ENTRY], "unknown": {"budget": 3}}))
    policy = policy_at(str(path))
    assert policy.classify({"decline_code": "do_not_honor"}).klass is HARD
    assert policy.classify({"decline_code": "insufficient_funds"}).klass is SOFT
    assert policy.unknown_budget == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "the document"),
        ({"rules": []}, "/rules"),
        ({"entries": {}}, "/entries"),
        ({"entries": [1]}, "/entries/0"),
        ({"entries": [{**ENTRY, "codes": "x"}]}, "/entries/0/codes"),
        ({"entries": [{**ENTRY, "class": "bad"}]}, "/entries/0/class"),
        ({"entries": [{**ENTRY, "class": ["hard"]}]}, "/entries/0/class"),
        ({"entries": [{**ENTRY, "field": "color"}]}, "/entries/0/field"),
        ({"entries": [{**ENTRY, "after": "soon"}]}, "/entries/0/after"),
        ({"entries": [{**ENTRY, "never": "yes"}]}, "/entries/0/never"),
        ({"entries": [{**ENTRY, "klass": "hard"}]}, "/entries/0/klass"),
        ({"entries": [{**ENTRY, "source": ""}]}, "/entries/0/source"),
        ({"unknown": 3}, "/unknown"),
        ({"unknown": {"budget": -1}}, "/unknown/budget"),
        ({"unknown": {"then": "x"}}, "/unknown/then"),
    ],
)
def test_wrong_policy_is_refused_by_its_place(given: Any, named: str) -> None:
    """The error names the file and the place in it."""
    with pytest.raises(ConfigurationError, match=rf"policy\.json: {named} "):
        read_policy(given, "policy.json", Policy())


def test_policy_file_that_cannot_be_read_stops_the_process(tmp_path: Path) -> None:
    """A missing file and one that is no JSON are errors of configuration."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        policy_at(str(tmp_path / "absent.json"))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        policy_at(str(broken))
