"""Providers' published limits: every one can be kept, has a source, and a key of its own."""

from __future__ import annotations

from collections import Counter
from datetime import date
from urllib.parse import urlsplit

import pytest

from orch8.errors import ConfigurationError
from orch8.limits import Limit
from orch8.money.limits import LIMITS, ProviderLimits, block_after, read_limits

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


def test_provider_that_blocks_is_known_by_the_form_of_its_keys() -> None:
    """Method takes no call of a tier for a minute after one too many; others say nothing of it."""
    assert block_after("method:live:acme:payments") == 60.0
    for key in ("method:live:acme", "method:live:acme:payments:x", "stripe:live:acct_1", "mine"):
        assert block_after(key) == 0.0


def test_every_provider_of_the_survey_has_its_numbers() -> None:
    """Those that were missing for longest, too."""
    found = {limit.key: limit for each in LIMITS.values() for limit in each.limits}
    for key, most, window in (
        ("tipalti:{mode}:{account}:write", 5, 60), ("tipalti:{mode}:{account}:poll", 1, 600),
        ("routable:{mode}:{account}", 600, 60), ("treasury_prime:{mode}:{account}", 30, 1),
        ("stripe:{mode}:{account}:invoices_day:{subscription}", 20, 86_400),
    ):  # fmt: skip
        allowed = found[key].live
        assert allowed is not None
        assert (allowed.max, allowed.window) == (most, window)
