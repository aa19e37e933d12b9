"""The providers' evidence tables: the matrix row by row, and what must hold for all of them."""

from __future__ import annotations

import json
import re
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ConfigurationError
from orch8.handlers.classify import Response, classifier, generic
from orch8.money.evidence import Observation, Rule, judge
from orch8.money.outcome_map import OUTCOMES, read_rules
from orch8.money.presets import PRESETS, names, preset, read_preset

PROVIDERS = (
    "adyen", "braintree", "checkout", "generic", "gocardless", "paypal", "plaid", "qonto",
    "stripe_v1", "stripe_v2", "truelayer", "worldline",
)  # fmt: skip
FILES = {
    file.name: json.loads(file.read_text("utf-8"))
    for file in files("orch8.money").joinpath("data", "presets").iterdir()
    if file.name.endswith(".json")
}
DOCUMENT = (Path(__file__).parents[2] / "deploy/docs/providers.md").read_text("utf-8")
WRITTEN = [
    (written["name"], index, rule)
    for written in FILES.values()
    for index, rule in enumerate(written["rules"])
]
NOTHING_HAPPENED = {Verdict.DECLINED, Verdict.REFUSED, Verdict.FAILED_SAFE}


def answer(
    provider: str | None, status: int, body: Any = None, *, rules: Any = (), **headers: str
) -> Answer:
    read, problems = read_rules(rules) if rules else ((), [])
    assert problems == []
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classifier(provider, read)(Response(status, raw, headers=named))


def error(code: str, kind: str = "card_error", **more: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, **more}}


def issue(name: str) -> dict[str, Any]:
    return {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": name}]}


def gocardless(reason: str, **links: str) -> dict[str, Any]:
    return {"error": {"code": 409, "errors": [{"reason": reason, "links": links}]}}


def braintree(status: str, **history: Any) -> dict[str, Any]:
    charge = {"transaction": {"id": "dHJ4", "status": status, "statusHistory": [history]}}
    return {"data": {"chargePaymentMethod": charge}}


MATRIX = [
    # 402 and the other ways to say no
    ("stripe_v1", 402, error("card_declined"), "declined"),
    ("adyen", 200, {"resultCode": "Refused"}, "declined"),
    ("adyen", 200, {"resultCode": "Error", "refusalReason": "Acquirer Error"}, "declined"),
    ("checkout", 201, {"approved": False, "status": "Declined"}, "declined"),
    ("checkout", 201, {"response_code": "20051"}, "declined"),
    ("paypal", 422, issue("INSTRUMENT_DECLINED"), "declined"),
    ("braintree", 200, braintree("PROCESSOR_DECLINED"), "declined"),
    ("braintree", 200, braintree("GATEWAY_REJECTED", gatewayRejectionReason="CVV"), "declined"),
    ("plaid", 200, {"authorization": {"decision": "declined"}}, "declined"),
    ("worldline", 402, {"errors": [{"code": "430330"}]}, "declined"),
    ("qonto", 200, {"transfer": {"id": "t", "status": "declined"}}, "declined"),
    ("truelayer", 200, {"id": "p", "status": "failed"}, "declined"),
    # 409: what it means is different everywhere
    (None, 409, {}, "unknown"),
    ("stripe_v1", 409, error("idempotency_key_in_use"), "in_progress"),
    ("stripe_v2", 409, error("idempotency_key_in_use"), "in_progress"),
    ("stripe_v2", 409, error("already_exists"), "unknown"),
    ("adyen", 409, {"errorCode": "704"}, "in_progress"),
    ("adyen", 422, {"errorCode": "704"}, "in_progress"),
    ("checkout", 409, {}, "in_progress"),
    ("gocardless", 409, gocardless("idempotent_creation_conflict", mandate="x"), "unknown"),
    ("gocardless", 409, gocardless("bank_account_exists"), "unknown"),
    ("paypal", 409, issue("PREVIOUS_REQUEST_IN_PROGRESS"), "in_progress"),
    ("paypal", 409, {"name": "RESOURCE_CONFLICT"}, "unknown"),
    ("worldline", 409, {"errors": [{"code": "1409"}]}, "in_progress"),
    ("worldline", 409, {"errors": [{"code": "300620"}]}, "unknown"),
    ("truelayer", 409, {"title": "Idempotency-Key Concurrency Conflict"}, "in_progress"),
    ("qonto", 409, {}, "unknown"),
    # a key that was used for something else says nothing about this attempt
    ("stripe_v1", 400, {"error": {"type": "idempotency_error"}}, "unknown"),
    ("paypal", 422, issue("DUPLICATE_REQUEST_ID"), "unknown"),
    ("truelayer", 422, {"title": "Idempotency-Key Reuse"}, "unknown"),
    (
        "braintree",
        200,
        braintree("GATEWAY_REJECTED", gatewayRejectionReason="DUPLICATE"),
        "unknown",
    ),
    # 429: refused before execution
    *[(provider, 429, {}, "failed_safe") for provider in (None, *PROVIDERS)],
    ("plaid", 400, {"error_type": "RATE_LIMIT_EXCEEDED"}, "failed_safe"),
    (
        "braintree",
        200,
        {"errors": [{"extensions": {"errorClass": "RESOURCE_LIMIT"}}]},
        "failed_safe",
    ),
    # 400, 401, 404, 422: refused before execution, and would be again
    *[
        (provider, status, {"error": {"message": "bad"}}, "refused")
        for provider in (None, *PROVIDERS)
        for status in (400, 401, 403, 404, 422)
    ],
    # 5xx: indeterminate, whether a stored answer or not
    *[
        (provider, status, body, "unknown")
        for provider in (None, *PROVIDERS)
        for status in (500, 502, 503, 504)
        for body in (None, {"error": {"type": "api_error"}}, b"<html>bad gateway</html>")
    ],
    ("stripe_v1", 424, {}, "unknown"),
    ("plaid", 400, {"error_type": "API_ERROR"}, "unknown"),
    ("braintree", 200, {"errors": [{"message": "?"}]}, "unknown"),
    # named exceptions: the code says that nothing was executed
    ("plaid", 503, {"error_type": "API_ERROR", "error_code": "PLANNED_MAINTENANCE"}, "failed_safe"),
    ("adyen", 500, {"errorCode": "905", "errorType": "configuration"}, "refused"),
    # in progress, waiting for the customer, not final
    ("stripe_v1", 200, {"object": "payment_intent", "status": "processing"}, "pending"),
    (
        "stripe_v1",
        200,
        {"object": "payment_intent", "status": "requires_action"},
        "requires_action",
    ),
    ("adyen", 200, {"resultCode": "ChallengeShopper"}, "requires_action"),
    ("adyen", 201, {"status": "received", "pspReference": "A"}, "pending"),
    ("checkout", 202, {"status": "Pending"}, "pending"),
    ("gocardless", 201, {"payments": {"id": "PM1", "status": "pending_submission"}}, "pending"),
    ("paypal", 422, issue("PAYER_ACTION_REQUIRED"), "requires_action"),
    ("qonto", 428, {"code": "sca_required"}, "requires_action"),
    ("truelayer", 201, {"id": "p", "status": "authorization_required"}, "requires_action"),
    # it worked
    *[(provider, 200, {}, "succeeded") for provider in (None, *PROVIDERS)],
    ("stripe_v1", 200, {"object": "payment_intent", "status": "succeeded"}, "succeeded"),
    ("adyen", 200, {"resultCode": "Authorised"}, "succeeded"),
    ("checkout", 201, {"status": "Authorized", "response_code": "10000"}, "succeeded"),
    ("braintree", 200, braintree("SUBMITTED_FOR_SETTLEMENT"), "succeeded"),
    ("worldline", 201, {"payment": {"id": "p", "status": "CAPTURE_REQUESTED"}}, "succeeded"),
    # a success that nobody can read may have happened
    *[(provider, 200, b"<html>", "unknown") for provider in (None, *PROVIDERS)],
]


@pytest.mark.parametrize(("provider", "status", "body", "verdict"), MATRIX)
def test_matrix(provider: str | None, status: int, body: Any, verdict: str) -> None:
    """Each row of the evidence matrix holds for each provider that it is about."""
    assert answer(provider, status, body).verdict == verdict


@pytest.mark.parametrize(("name", "index", "written"), WRITTEN)
def test_rule_decides_its_own_example(name: str, index: int, written: dict[str, Any]) -> None:
    """No rule stands in the shadow of an earlier one: its example reaches it."""
    known = PRESETS[name]
    example = written["example"]
    seen = Observation(example["status"], example.get("body"), example.get("headers", {}))
    judged = judge(known.rules, seen, code_paths=known.code_paths)
    assert judged is not None
    assert known.rules.index(judged.rule) == index
    assert judged.verdict == written["outcome"]
    headers = {name.replace("-", "_"): value for name, value in seen.headers.items()}
    read = answer(name, seen.status, seen.body, **headers)
    assert read.verdict == written["outcome"]


@pytest.mark.parametrize("known", PRESETS.values(), ids=PRESETS)
def test_preset_says_where_it_knows_from(known: Any) -> None:
    """Every rule has a source and the date on which it was compared with it."""
    assert all(source.startswith("https://") for source in known.sources)
    assert date.fromisoformat(known.checked)
    assert known.version >= 1
    for rule in known.rules:
        assert rule.source.startswith("https://")
        assert date.fromisoformat(rule.checked)
        assert rule.why or rule.verdict is Verdict.SUCCEEDED


@pytest.mark.parametrize("known", PRESETS.values(), ids=PRESETS)
def test_preset_keys_fit_the_engine(known: Any) -> None:
    """A key travels in a header or a field, holds our 36 characters, and has a known replay."""
    key = known.key
    assert (key.header is None) is (key.field is not None)
    assert key.longest is None or key.longest >= 36
    assert key.ttl is None or key.ttl >= 1800
    assert key.replay in {"returns_first_result", "only_success", "conflict_means_exists", None}
    assert known.retry_header is None or known.retry_header == known.retry_header.lower()


def test_presets_are_found_by_name() -> None:
    """There are the presets that the documents promise, each in the file of its name."""
    assert names() == PROVIDERS
    assert sorted(FILES) == [f"{name}.json" for name in PROVIDERS]
    assert all(f"{written['name']}.json" == file for file, written in FILES.items())
    assert preset("nobody") is None
    assert preset("qonto").key.ttl == 1800  # type: ignore[union-attr]


def test_document_agrees_with_the_presets() -> None:
    """The table of providers.md is that of the data files, and its maps can be read."""
    lines = DOCUMENT.splitlines()
    for known in PRESETS.values():
        [row, meanings] = [line for line in lines if line.startswith(f"| `{known.name}` |")]
        _, _, where, longest, _, _, checked, _ = (cell.strip() for cell in row.split("|"))
        assert f"`{known.key.header or known.key.field}`" in where
        assert (longest, checked) == (str(known.key.longest or ""), known.checked)
        assert meanings.count("failed_safe") == 1
    maps = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
    written = [each["outcome_map"] for each in maps if "outcome_map" in each]
    assert len(written) == 2
    assert [read_rules(each)[1] for each in written] == [[], []]


@given(st.sampled_from((None, *PROVIDERS)), st.integers(100, 599), st.sampled_from(WRITTEN))
def test_server_error_is_never_an_ending_without_a_code(
    provider: str | None, status: int, written: tuple[str, int, dict[str, Any]]
) -> None:
    """Whatever stands in its body, a 5xx ends nothing unless a rule names a code for it."""
    body = written[2]["example"].get("body")
    verdict = answer(provider, status, body).verdict
    assert verdict in OUTCOMES.values()
    if status >= 500 and verdict is not Verdict.UNKNOWN:
        known = PRESETS[str(provider)]
        judged = judge(known.rules, Observation(status, body), code_paths=known.code_paths)
        assert judged is not None
        assert judged.rule.codes


@given(
    st.sampled_from((None, *PROVIDERS)),
    st.integers(100, 999),
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.integers(0, 9999) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["error", "errors", "code", "status", "payments", "data", "type"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(orjson.dumps),
    ),
)
def test_every_answer_has_one_verdict(provider: str | None, status: int, body: bytes) -> None:
    """Nothing that a server can say breaks the reading, and junk with a 5xx stays unknown."""
    read = answer(provider, status, body)
    assert read.verdict in OUTCOMES.values()
    if status >= 500:
        assert read.verdict not in NOTHING_HAPPENED


def test_existing_resource_is_bound_not_created_again() -> None:
    """GoCardless' conflict names what exists: succeeded, to be fetched, with its reference."""
    body = gocardless("idempotent_creation_conflict", conflicting_resource_id="PM123")
    got = answer("gocardless", 409, body)
    assert (got.verdict, got.output, got.error) == (Verdict.SUCCEEDED, body, None)
    assert got.evidence["fetch"] is True
    assert got.evidence["provider_ref"] == "PM123"


def test_outcome_map_speaks_first() -> None:
    """The step's own rules win over the body's outcome, the preset and the generic table."""
    rules = [{"status": 409, "codes": ["already_captured"], "outcome": "succeeded"}]
    body = {"error": {"code": "already_captured"}, "outcome": "unknown"}
    got = answer("stripe_v1", 409, body, rules=rules)
    assert (got.verdict, got.output) == (Verdict.SUCCEEDED, body)
    assert got.evidence["why"]
    assert answer(None, 409, body, rules=rules).verdict is Verdict.SUCCEEDED
    assert answer("stripe_v1", 409, error("other"), rules=rules).verdict is Verdict.IN_PROGRESS


def test_outcome_map_may_look_where_the_preset_looks() -> None:
    """A short code in a step's map is found at the provider's own places, too."""
    rules = {"CARD_EXPIRED": "requires_action"}
    assert answer("paypal", 422, issue("CARD_EXPIRED"), rules=rules).verdict == "requires_action"


def test_handler_that_names_its_outcome_wins_over_the_preset() -> None:
    """An explicit outcome is the handler's own word; the preset is asked only without one."""
    body = {"object": "payment_intent", "status": "requires_action", "outcome": "succeeded"}
    assert answer("stripe_v1", 200, body).verdict is Verdict.SUCCEEDED
    assert answer("stripe_v1", 402, {"outcome": "unknown"}).verdict is Verdict.UNKNOWN
    assert answer("stripe_v1", 402, {"outcome": "succeeded"}).verdict is Verdict.DECLINED


def test_unreadable_success_stays_unknown_whatever_the_map_hopes() -> None:
    """No rule makes a success of a body that nobody could read."""
    got = answer("qonto", 200, b"<html>", rules={"2xx": "succeeded"})
    assert got.verdict is Verdict.UNKNOWN
    assert "why" not in got.evidence


def test_evidence_says_how_the_answer_was_read() -> None:
    """Preset, reason, reference and the provider's wish about repeating are on record."""
    got = answer("stripe_v1", 402, error("card_declined", payment_intent={"id": "pi_1"}))
    assert got.evidence == {
        "preset": "stripe_v1",
        "why": "the issuer or Stripe declined; the same key would answer the same",
        "provider_ref": "pi_1",
    }
    again = answer("stripe_v1", 500, {}, stripe_should_retry="true")
    assert again.evidence["should_retry"] is True
    assert answer(None, 200, {"provider_ref": "ch_9"}).evidence == {"provider_ref": "ch_9"}
    assert answer(None, 200, {"id": "ch_9"}).evidence == {}


def test_card_number_is_no_reference() -> None:
    """What looks like a card number never reaches the evidence."""
    for number in ("4242424242424242", "4242 4242 4242 4242", 4242424242424242):
        assert "provider_ref" not in answer("stripe_v1", 200, {"id": number}).evidence


def test_error_carries_the_providers_own_code() -> None:
    """Retry rules see the code that the provider's preset knows to look for."""
    refused = answer("paypal", 422, issue("INSTRUMENT_DECLINED")).error
    assert refused is not None
    assert refused["code"] == "INSTRUMENT_DECLINED"
    declined = answer(
        "braintree", 200, braintree("PROCESSOR_DECLINED", processorResponse={"legacyCode": "2001"})
    )
    assert declined.error is not None
    assert declined.error["code"] == "2001"


def test_wish_to_wait_comes_from_the_answer_else_from_the_rule() -> None:
    """Retry-After wins over what the preset recommends."""
    assert answer("checkout", 409).retry_after == 30.0
    waits = classifier("checkout")(Response(409, b"", 7.0))
    assert waits.retry_after == 7.0


def test_reading_is_made_once_per_step() -> None:
    """The same provider and map share one reader, and an unknown provider reads generically."""
    rules = [Rule(Verdict.PENDING, statuses=frozenset({"202"}))]
    assert classifier("adyen", rules) is classifier("adyen", tuple(rules))
    assert classifier(None) is classifier("generic") is classifier("nobody") is generic


@pytest.mark.parametrize(
    "broken",
    [{}, {"rules": [{"status": 409}]}, {"key": {"head": "X"}}, {"key": {"ttl": "soon"}}],
)
def test_broken_preset_is_refused(broken: dict[str, Any]) -> None:
    """A data file that is no preset stops the program with the preset's name."""
    whole = {**FILES["qonto.json"], **broken} if broken else {"name": "qonto"}
    with pytest.raises(ConfigurationError, match="qonto"):
        read_preset(whole)
