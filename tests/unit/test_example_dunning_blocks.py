"""Every block of the shipped dunning is entered by one of its tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from orch8.definition import load
from orch8.engine.block import Block, Leaf
from orch8.engine.keys import unescape_id
from orch8.testing.driver import Driver
from tests.support.dunning import DUNNING
from tests.unit import test_example_dunning as branches
from tests.unit import test_example_dunning_dates as dates
from tests.unit import test_example_dunning_doubt as doubts
from tests.unit import test_example_dunning_elsewhere as elsewhere

MODULES: tuple[ModuleType, ...] = (branches, dates, doubts, elsewhere)


def stories() -> Iterator[Callable[[], None]]:
    """The tests of the modules, each with each of its parameters."""
    for module in MODULES:
        for name, test in vars(module).items():
            if not name.startswith("test_"):
                continue
            marks = [m for m in getattr(test, "pytestmark", ()) if m.name == "parametrize"]
            if not marks:
                yield test
            for mark in marks:
                names = mark.args[0]
                names = [names] if isinstance(names, str) else names
                for values in mark.args[1]:
                    given = values if len(names) > 1 else [values]
                    yield partial(test, **dict(zip(names, given, strict=True)))


def test_dunning_has_no_block_that_no_test_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is called and each router, loop, end and route entered, in at least one test."""
    entered: set[str] = set()
    drivers: list[Driver] = []
    build = Driver.__init__

    def building(driver: Driver, *args: Any) -> None:
        drivers.append(driver)
        build(driver, *args)

    monkeypatch.setattr(Driver, "__init__", building)
    index = load(json.loads(DUNNING.read_text())).index
    for kind in {type(block) for block in index.values() if not isinstance(block, Leaf)}:
        _record(monkeypatch, kind, entered)
    for story in stories():
        story()
    for store in (driver.store for driver in drivers):
        for instance_id in store.instances:
            entered |= {unescape_id(row.block_id) for row in store.steps_of(instance_id)}
    wanted = {unescape_id(block_id) for block_id in index} - {"@sla"}
    # An interrupt is never entered itself: its blocks are, by the root.
    wanted -= {f"@interrupt@{n}" for n in range(4)}
    assert wanted - entered == set()


def _record(monkeypatch: pytest.MonkeyPatch, kind: type[Block], entered: set[str]) -> None:
    start = kind.start

    def entering(self: Block, *args: Any) -> Any:
        entered.add(unescape_id(self.id))
        return start(self, *args)

    monkeypatch.setattr(kind, "start", entering)
