"""Providers' published limits: every one can be kept, has a source, and a key of its own."""

from __future__ import annotations

from collections import Counter
from datetime import date
from urllib.parse import urlsplit

import pytest

from orch8.errors import ConfigurationError
from orch8.limits import Limit
from orch8.money.limits import LIMITS, ProviderLimits, read_limits

SOUND = {
    "name": "a", "title": "A", "account": "site", "checked": "2026-11-22", "source": "https://a/",
    "limits": [{"key": "a:{mode}:{account}", "covers": "all", "live": {"max": 1, "window": "1s"}}],
}  # fmt: skip


@pytest.mark.parametrize("provider", LIMITS.values(), ids=lambda each: each.name)
def test_published_limits_can_be_kept(provider: ProviderLimits) -> None:
    """The limiter takes each of them; source and date say where to look again."""
    assert urlsplit(provider.source).scheme == "https"
    assert date.fromisoformat(provider.checked) <= date(2100, 1, 1)
    keys = Counter(each.key for each in provider.limits)
    assert set(keys.values()) == {1}
    for each in provider.limits:
        assert each.key.startswith(f"{provider.name}:{{mode}}:{{account}}")
        assert each.covers
        for allowed in filter(None, (each.live, each.test)):
            Limit("k", allowed.max, allowed.window, max_in_flight=allowed.max_in_flight)


def test_limits_of_single_objects_are_told_apart() -> None:
    """They cannot be set for an account, only named in steps."""
    each = {limit.key: limit.each for limit in LIMITS["plaid"].limits}
    assert each["plaid:{mode}:{account}:balance"] is None
    assert each["plaid:{mode}:{account}:balance:{item}"] == "item"


def test_stripe_has_its_numbers() -> None:
    """A hundred a second live, a quarter of that in the sandbox."""
    account = LIMITS["stripe"].limits[0]
    assert account.live is not None
    assert account.test is not None
    assert (account.live.max, account.live.window, account.test.max) == (100, 1.0, 25)


@pytest.mark.parametrize(
    "change",
    [
        {"title": None, "limits": None}, {"more": 1}, {"limits": [{"key": "a"}]},
        {"limits": [{"key": "a", "covers": "all", "live": {"max": 1, "window": "soon"}}]},
    ],
)  # fmt: skip
def test_limits_that_cannot_be_read_are_an_error(change: dict[str, object]) -> None:
    """Which names the provider."""
    assert read_limits(SOUND).limits[0].test is None
    with pytest.raises(ConfigurationError, match="limits of 'a'"):
        read_limits({**SOUND, **change})
