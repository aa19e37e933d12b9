"""What stops a run by itself: told from what was asked for it, its metadata and the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orch8.config import Settings
from orch8.runtime.places import place_of
from orch8.runtime.stops import Stops, stops_of
from orch8.storage.places import Place
from orch8.storage.rows import InstanceRow
from orch8.testing import Simulator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=7)
STEP = {"type": "step", "handler": "noop"}


def row(**more: Any) -> InstanceRow:
    """An instance of which only this is said."""
    return InstanceRow(
        ID, "acme", "default", ID, "scheduled", {"f": {}}, "renewal", "Normal", "UTC", NOW, NOW,
        **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "most", "expected"),
    [
        ({}, 0, None),
        ({}, 9, Stops(None, 9, frozenset())),
        ({"terms": {"budget": {"max_steps": 3}}}, 0, Stops(3, 0, frozenset())),
        ({"terms": {"budget": {"max_steps": 0}}}, 0, Stops(0, 0, frozenset())),
        ({"terms": {"budget": {"max_total_tokens": 3}}}, 0, None),
        ({"terms": {"concurrency_key": "k"}}, 0, None),
        ({"metadata": {"_debug_breakpoints": ["a", 7]}}, 0, Stops(None, 0, frozenset({"a"}))),
        ({"metadata": {"_debug_breakpoints": []}}, 0, None),
        ({"metadata": {"_debug_breakpoints": "a"}}, 0, None),
        ({"metadata": ["a"]}, 0, None),
        ({"metadata": 7}, 0, None),
    ],
)
def test_stops_are_there_only_if_something_stops_the_run(
    members: Any, most: int, expected: Stops | None
) -> None:
    """So that others pay nothing for it."""
    assert stops_of(row(**members), most) == expected


def test_place_is_needed_only_with_a_key() -> None:
    """A bound alone means nothing."""
    assert place_of(row()) is None
    assert place_of(row(terms={"max_concurrency": 3})) is None
    assert place_of(row(terms={"concurrency_key": "k"})) == Place(ID, "acme", "k", None)
    terms = {"concurrency_key": "k", "max_concurrency": 3}
    assert place_of(row(terms=terms)) == Place(ID, "acme", "k", 3)


def test_simulated_instance_is_held_to_the_bound_on_steps() -> None:
    """As the real one is."""
    blocks = [{**STEP, "id": name} for name in "abc"]
    with Simulator({"id": "t", "blocks": blocks}, settings=Settings(max_steps=2)) as sim:
        instance = sim.start()
        sim.run()
    assert (instance.state, (instance.error or {})["code"]) == ("failed", "too_many_steps")
    assert [each.node_key for each in instance.steps if each.state == "completed"] == ["a", "b"]
