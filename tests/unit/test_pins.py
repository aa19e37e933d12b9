"""Versions of pull workers, as pins compare them."""

from __future__ import annotations

import pytest

from orch8.runtime.pins import below

ORDERED = [
    "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "2", "10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(ORDERED)))
def test_versions_have_one_order(place: int) -> None:
    """By their numbers; what is before a release comes before it."""
    minimum = ORDERED[place]
    assert [below(each, minimum) for each in ORDERED] == [
        n < place for n in range(len(ORDERED))
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0+build.7", " 1.0.0 "])
def test_equal_versions_are_written_in_many_ways(version: str) -> None:
    """Neither is below the other."""
    assert not below(version, "1.0.0")
    assert not below("1.0.0", version)


@pytest.mark.parametrize("version", [None, "", "dev", "1.x", "1..2", "99999999999"])
def test_what_cannot_be_read_is_below(version: str | None) -> None:
    """A worker that does not say its version gets nothing that is pinned."""
    assert below(version, "0.0.1")
