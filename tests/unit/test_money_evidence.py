"""Rules over answers: what they look at, which decides, and how badly written ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.engine.outcome import Verdict
from orch8.money.evidence import (
    CODE_PATHS,
    MAX_FOUND,
    UNREADABLE,
    Observation,
    Rule,
    codes_in,
    find,
    judge,
    reference,
)
from orch8.money.outcome_map import MAX_RULES, OUTCOMES, read_rule, read_rules


def rule(**given: Any) -> Rule:
    read, problems = read_rule({"outcome": "declined", **given})
    assert problems == []
    assert read is not None
    return read


def fits(given: dict[str, Any], status: int, body: Any = None, **headers: str) -> bool:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge([rule(**given)], Observation(status, body, named)) is not None


@pytest.mark.parametrize(
    ("wanted", "status", "met"),
    [
        (409, 409, True),
        ("409", 409, True),
        (409, 410, False),
        ("4xx", 499, True),
        ("4xx", 500, False),
        ([402, "5xx"], 503, True),
        ([402, "5xx"], 403, False),
    ],
)
def test_status_condition_takes_numbers_and_classes(wanted: Any, status: int, met: bool) -> None:
    """A status is met by itself and by its class, and one of several is enough."""
    assert fits({"status": wanted, "headers": {"x": "*"}}, status, x="1") is met


@pytest.mark.parametrize(
    ("wanted", "body", "met"),
    [
        ("card_declined", {"code": "card_declined"}, True),
        ("card_declined", {"error": {"code": "card_declined"}}, True),
        (
            "insufficient_funds",
            {"error": {"code": "x", "decline_code": "insufficient_funds"}},
            True,
        ),
        ("card_error", {"error": {"type": "card_error"}}, True),
        ("E1", {"error_code": "E1"}, True),
        ("704", {"errorCode": "704"}, True),
        (704, {"errorCode": "704"}, True),
        ("704", {"errorCode": 704}, True),
        ("busy", {"errors": [{"code": "other"}, {"reason": "busy"}]}, True),
        ("BUSY", {"name": "BUSY"}, True),
        (["a", "b"], {"code": "b"}, True),
        ("2xxx", {"code": "2046"}, True),
        ("20xx", {"code": 2046}, True),
        ("2xxx", {"code": "20460"}, False),
        ("3xxx", {"code": "2046"}, False),
        ("true", {"code": True}, False),
        ("card_declined", {"message": "card_declined"}, False),
        ("card_declined", [{"code": "card_declined"}], False),
        ("card_declined", UNREADABLE, False),
    ],
)
def test_code_condition_looks_where_codes_stand(wanted: Any, body: Any, met: bool) -> None:
    """A code is found at the usual places, as text, and by the class of its number."""
    assert fits({"codes": wanted}, 400, body) is met


def test_preset_says_where_its_codes_stand() -> None:
    """With paths of its own a code elsewhere in the body does not count."""
    declined = [rule(codes="NO")]
    seen = Observation(422, {"code": "NO", "details": [{"issue": "YES"}, {"issue": "MAYBE"}]})
    assert judge(declined, seen) is not None
    assert judge(declined, seen, code_paths=["details[].issue"]) is None
    found = judge([rule(codes="MAYBE")], seen, code_paths=["details[].issue"])
    assert found is not None
    assert found.code == "YES"


@pytest.mark.parametrize(
    ("wanted", "body", "met"),
    [
        ({"status": "failed"}, {"status": "failed"}, True),
        ({"status": ["failed", "expired"]}, {"status": "expired"}, True),
        ({"status": "failed"}, {"status": "paid"}, False),
        ({"approved": False}, {"approved": False}, True),
        ({"approved": False}, {"approved": 0}, False),
        ({"left": 1}, {"left": True}, False),
        ({"left": 1}, {"left": 1.0}, True),
        ({"payment.id": "*"}, {"payment": {"id": "p1"}}, True),
        ({"payment.id": "*"}, {"payment": {"id": None}}, False),
        ({"payment.id": "*"}, {"payment": {}}, False),
        ({"items[].state": "bad"}, {"items": [{"state": "ok"}, {"state": "bad"}]}, True),
        ({"items[].state": "bad"}, {"items": {"state": "bad"}}, False),
        ({"data.*.state": "bad"}, {"data": {"charge": {"state": "bad"}}}, True),
        ({"a": "1", "b": "2"}, {"a": "1"}, False),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, True),
    ],
)
def test_body_condition_compares_as_json(wanted: Any, body: Any, met: bool) -> None:
    """Paths lead into objects and lists, all of them must be met, and true is not 1."""
    assert fits({"body": wanted}, 200, body) is met


def test_header_condition_ignores_case_and_blanks() -> None:
    """Names and values of headers are compared without case."""
    wanted = {"headers": {"Transient-Error": "TRUE"}}
    assert fits(wanted, 500, transient_error=" True ")
    assert not fits(wanted, 500, transient_error="false")
    assert not fits(wanted, 500)
    assert fits({"headers": {"X-Known": "*"}}, 500, x_known="")


def test_first_rule_that_fits_decides() -> None:
    """Later rules are not asked, and without a rule that fits there is no judgement."""
    rules = [rule(status=409, codes="paid", outcome="succeeded"), rule(status=409)]
    seen = Observation(409, {"code": "paid"})
    assert judge(rules, seen) is not None
    assert [judge(order, seen).verdict for order in (rules, rules[::-1])] == [  # type: ignore[union-attr]
        Verdict.SUCCEEDED,
        Verdict.DECLINED,
    ]
    assert judge(rules, Observation(410)) is None
    assert judge([], seen) is None


def test_judgement_has_all_that_the_rule_says() -> None:
    """Reference, reason, wish to wait and whether to fetch come with the verdict."""
    ref = "error.errors[].links.existing"
    exists = rule(
        codes="conflict", outcome="succeeded", fetch=True, ref=ref, why="exists", retry_after="5s"
    )
    body = {"error": {"code": "conflict", "errors": [{}, {"links": {"existing": "PM1"}}]}}
    judged = judge([exists], Observation(409, body))
    assert judged is not None
    assert (judged.provider_ref, judged.code, judged.why) == ("PM1", "conflict", "exists")
    assert (judged.fetch, judged.retry_after) == (True, 5.0)


def test_looking_into_a_body_is_bounded() -> None:
    """A path leads to a bounded number of values, whatever the body holds."""
    body = {"errors": [{"code": n} for n in range(10_000)]}
    assert len(find(body, "errors[].code")) == MAX_FOUND
    assert len(codes_in(body)) == MAX_FOUND
    assert len(codes_in({"code": "x" * 10_000})[0]) < 1000


@pytest.mark.parametrize("body", [None, [], "text", 7, UNREADABLE, {"id": {}}, {"id": True}])
def test_reference_is_a_text_or_nothing(body: Any) -> None:
    """What is no text and no number is no reference."""
    assert reference(body, ("id",)) is None
    assert reference({"id": 7, "x": body}, ("no", "id")) == "7"


def test_short_form_asks_codes_before_statuses_before_classes() -> None:
    """The order of an object's members means nothing: the more exact key decides."""
    given = {"4xx": "unknown", "409": "succeeded", "gone": "declined", "20xxx": "declined"}
    for order in (given, dict(reversed(given.items()))):
        rules, problems = read_rules(order)
        assert problems == []
        verdicts = [
            judge(rules, Observation(status, body)).verdict  # type: ignore[union-attr]
            for status, body in (
                (409, {"code": "gone"}),
                (409, {"code": "other"}),
                (410, None),
                (409, {"code": "20051"}),
            )
        ]
        assert verdicts == ["declined", "succeeded", "unknown", "declined"]


def test_every_outcome_word_can_be_written() -> None:
    """The vocabulary is closed, and time-outs and unsent requests have no word in it."""
    assert set(OUTCOMES) == {
        "succeeded", "declined", "requires_action", "pending", "in_progress", "failed_safe",
        "refused", "unknown",
    }  # fmt: skip
    for word, verdict in OUTCOMES.items():
        assert rule(status=400, outcome=word).verdict is verdict


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ("409", "", "list of rules"),
        (None, "", "list of rules"),
        ([{}], "/0/outcome", "required"),
        (["409"], "/0", "object"),
        ([{"outcome": "declined"}], "/0", "condition"),
        ([{"status": 409, "outcome": "decline"}], "/0/outcome", "did you mean declined"),
        ([{"status": 409, "outcome": 3}], "/0/outcome", "use one of"),
        ([{"status": 409, "outcome": "not_sent"}], "/0/outcome", "must not be"),
        ([{"statuss": 409, "outcome": "declined"}], "/0/statuss", "did you mean status"),
        ([{"a/b": 1, "status": 409, "outcome": "declined"}], "/0/a~1b", "unknown member"),
        ([{"status": 99, "outcome": "declined"}], "/0/status", "must not be"),
        ([{"status": "6xx", "outcome": "unknown"}], "/0/status", "must not be"),
        ([{"status": [], "outcome": "unknown"}], "/0/status", "1 to"),
        ([{"status": True, "outcome": "unknown"}], "/0/status", "a text or a number"),
        ([{"codes": [""], "outcome": "unknown"}], "/0/codes", "1 to"),
        ([{"codes": [{}], "outcome": "unknown"}], "/0/codes", "a text or a number"),
        ([{"body": [], "outcome": "unknown"}], "/0/body", "object"),
        ([{"body": {"a": None}, "outcome": "unknown"}], "/0/body/a", "cannot look"),
        ([{"body": {"a..b": 1}, "outcome": "unknown"}], "/0/body/a..b", "cannot look"),
        ([{"body": {"a": {}}, "outcome": "unknown"}], "/0/body/a", "a text or a number"),
        ([{"headers": {"x": 1}, "outcome": "unknown"}], "/0/headers/x", "a text"),
        ([{"status": 409, "outcome": "unknown", "why": 1}], "/0/why", "a text"),
        ([{"status": 409, "outcome": "unknown", "ref": "a["}], "/0/ref", "a path"),
        ([{"status": 409, "outcome": "unknown", "fetch": 1}], "/0/fetch", "true or false"),
        ([{"status": 409, "outcome": "unknown", "fetch": True}], "/0/fetch", "succeeded"),
        ([{"status": 409, "outcome": "unknown", "retry_after": "x"}], "/0/retry_after", "duration"),
        ([{"status": 409, "outcome": "unknown", "retry_after": "3d"}], "/0/retry_after", "a day"),
        ({"409": "ok"}, "/409", "use one of"),
        ({"": "declined"}, "/", "1 to"),
        ([{}] * (MAX_RULES + 1), "", "more than"),
    ],
)
def test_badly_written_rule_is_refused_with_its_place(given: Any, pointer: str, words: str) -> None:
    """The pointer leads to what is wrong, and the text says what to do about it."""
    rules, problems = read_rules(given)
    assert rules == ()
    [first, *_] = problems
    assert first.pointer == pointer
    assert words in f"{first.message} {first.hint}"


@pytest.mark.parametrize("outcome", ["succeeded", "declined", "requires_action", "refused"])
@pytest.mark.parametrize("status", ["5xx", 503, [402, 500]])
def test_server_error_alone_never_ends_an_attempt(outcome: str, status: Any) -> None:
    """A rule that would take a bare 5xx for an ending is refused; with a code it may."""
    given = {"status": status, "outcome": outcome}
    read, [problem] = read_rule(given)
    assert read is None
    assert problem.pointer == "/status"
    assert read_rule({**given, "codes": "CONFIGURATION"})[1] == []


def test_all_problems_are_found_at_once() -> None:
    """One reading of a map tells everything that is wrong with it."""
    given = [{"status": 1, "codes": 2.5}, {"status": 409, "outcome": "declined"}, 3]
    pointers = [problem.pointer for problem in read_rules(given)[1]]
    assert pointers == ["/0/outcome", "/0/status", "/0/codes", "/2"]


def test_rules_can_be_kept_in_sets() -> None:
    """A rule is a value: equal ones are one."""
    same = {"body": {"a.b": ["x", 1, True]}, "headers": {"X": "y"}}
    assert len({rule(**same), rule(**same)}) == 1
    assert "name" in CODE_PATHS
