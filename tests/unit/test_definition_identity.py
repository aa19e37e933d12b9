"""What a sequence says of its business key and its correlations."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.definition import load
from tests.support.documents import CHARGE, contract, loaded, refusal, seed

KEY = "dunning:{{context.data.invoice_id}}"


def test_unique_is_read_with_its_parts() -> None:
    """A key knows the expressions inside it, how long it holds and what a conflict comes to."""
    unique = loaded(CHARGE, unique={"key": "{{ data.a }}:{{data.b | upper}}"}).unique
    assert unique is not None
    assert unique.written == ("data.a", "data.b | upper")
    assert (unique.lasting, unique.returns_existing) == (False, False)
    always = {"key": KEY, "while": "always", "on_conflict": "return_existing"}
    unique = loaded(CHARGE, unique=always).unique
    assert unique is not None
    assert (unique.lasting, unique.returns_existing) == (True, True)


def test_identity_is_optional_and_may_be_null() -> None:
    """A sequence without a key and correlations has none, and null is nothing."""
    for members in ({}, {"unique": None, "correlation": None}, {"correlation": {}}):
        sequence = loaded(CHARGE, **members)
        assert sequence.unique is None
        assert not sequence.correlation


def test_identity_is_part_of_what_is_published() -> None:
    """Two definitions that differ in their key are not the same."""
    plain, keyed = loaded(CHARGE), loaded(CHARGE, unique={"key": KEY})
    assert plain.sha256 != keyed.sha256


def test_identity_is_read_in_the_long_form() -> None:
    """Existing clients can have both, in their own dialect."""
    given = {"unique": {"key": KEY}, "correlation": {"invoice_id": "{{context.data.invoice_id}}"}}
    sequence = load(contract({**CHARGE, "id": "charge"}, **given))
    assert sequence.unique is not None
    assert list(sequence.correlation) == ["invoice_id"]


REFUSED: list[tuple[dict[str, Any], int, str, str, str]] = [
    ({"unique": 5}, 422, "/unique", "must be an object", ""),
    ({"unique": {}}, 422, "/unique/key", "key is required", ""),
    ({"unique": {"key": 5}}, 422, "/unique/key", "must be a string", ""),
    ({"unique": {"key": " "}}, 400, "/unique/key", "must not be blank", ""),
    ({"unique": {"key": "k", "while": "forever"}}, 422, "/unique/while", "'forever'", "always"),
    ({"unique": {"key": "k", "on_conflict": "x"}}, 422, "/unique/on_conflict", "'x'", "fail"),
    ({"unique": {"key": "k", "whle": "x"}}, 400, "/unique/whle", "unknown member", "while"),
    ({"unique": {"key": "{{nope}}"}}, 400, "/unique/key", "unique.key: unknown root", "known"),
    ({"unique": {"key": "{{ data.a"}}, 400, "/unique/key", "not closed", "expression"),
    ({"unique": {"key": "{{outputs.charge.id}}"}}, 400, "/unique/key", "outputs.charge", "context"),
    ({"unique": {"key": "{{trigger.date}}"}}, 400, "/unique/key", "reads trigger", "context"),
    ({"unique": {"key": "{{state.x}}"}}, 400, "/unique/key", "reads state", "context"),
    ({"unique": {"key": "{{uuid()}}"}}, 400, "/unique/key", "made of chance", "context"),
    ({"correlation": ["a"]}, 422, "/correlation", "must be an object", ""),
    ({"correlation": {"a": 5}}, 422, "/correlation/a", "must be a string", "context.data.a"),
    ({"correlation": {" ": "x"}}, 400, "/correlation/ ", "1 to 64 printable", "invoice_id"),
    ({"correlation": {"a/b": "{{nope}}"}}, 400, "/correlation/a~1b", "unknown root", "known"),
    (
        {"correlation": {"a": "{{outputs.charge.id}}"}},
        400,
        "/correlation/a",
        "not known",
        "context",
    ),
    (
        {"correlation": {str(n): "x" for n in range(17)}},
        400,
        "/correlation",
        "more than 16",
        "keep",
    ),
]


@pytest.mark.parametrize(("members", "status", "pointer", "message", "hint"), REFUSED)
def test_identity_that_makes_no_sense_is_refused(
    members: dict[str, Any], status: int, pointer: str, message: str, hint: str
) -> None:
    """Each mistake is named with its place and what to do about it."""
    found_status, problems = refusal(seed(CHARGE, **members))
    assert (found_status, [each.pointer for each in problems]) == (status, [pointer])
    assert message in problems[0].message
    assert hint in problems[0].hint
