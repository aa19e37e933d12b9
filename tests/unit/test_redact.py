"""What a person is shown of a payload."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.runtime.redact import HIDDEN, MAX_DEPTH, MAX_ITEMS, MAX_TEXT, redact


@pytest.mark.parametrize(
    "name", ["cvc", "CVV2", "api_key", "apiKey", "client-secret", "access_token", "password", "pan"]
)
def test_member_with_the_name_of_a_secret_is_hidden(name: str) -> None:
    """Whatever its case and punctuation, and whatever is in it; that there is none is shown."""
    assert redact({name: {"a": 1}}) == {name: HIDDEN}
    assert redact({name: None}) == {name: None}


@pytest.mark.parametrize("name", ["company", "shipping", "amount", "idempotency_key", "currency"])
def test_other_members_stay(name: str) -> None:
    """A name that only contains the letters of a secret's is none."""
    assert redact({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("4242424242424242", "424242…4242"),
        ("card 4242 4242-4242 4242 was used", "card 424242…4242 was used"),
        ("378282246310005", "378282…0005"),
        (4242424242424242, "424242…4242"),
        ("4242424242424241", "4242424242424241"),
        ("1712345678901", "1712345678901"),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: {HIDDEN}"),
        ("sk_live_abcdefghijkl", HIDDEN),
        ("whsec_abcdefghijkl", HIDDEN),
        ("019a0000-0000-7000-8000-000000000001", "019a0000-0000-7000-8000-000000000001"),
    ],
)
def test_card_number_keeps_its_ends_and_a_secret_nothing(given: Any, shown: Any) -> None:
    """Digits without the check digit of a card number are some other number, and stay."""
    assert redact([given]) == [shown]


def test_what_is_too_large_is_cut_off() -> None:
    """Texts, lists and depth are bounded."""
    assert len(redact("x" * (MAX_TEXT + 1))) == MAX_TEXT + 1
    assert len(redact(list(range(2 * MAX_ITEMS)))) == MAX_ITEMS
    assert len(redact({str(n): n for n in range(2 * MAX_ITEMS)})) == MAX_ITEMS
    deep: Any = 1
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    assert "nested too deep" in str(redact(deep))


@pytest.mark.parametrize("value", [None, True, 0, -5, 1.5, "", [], {}])
def test_plain_values_are_shown_as_they_are(value: Any) -> None:
    """Nothing is made of nothing."""
    assert redact(value) == value
