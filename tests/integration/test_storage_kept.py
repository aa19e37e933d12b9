"""Statements that are functions of the database: they do what the statement of all changes does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from orch8.runtime.start import StartRequest, begin, find, newborn
from orch8.storage import changes
from orch8.storage.cipher import OPEN, Cipher
from orch8.storage.kept import KEPT
from tests.support.house import House

STEP = {"type": "step", "handler": "charge"}


class Recorder:
    """A transaction that only notes the statement that it is given."""

    def __init__(self) -> None:
        self.cipher: Cipher = OPEN
        self.turns: dict[Any, UUID] = {}
        self.sql, self.params = "", {}

    def rows(self, sql: str, params: dict[str, Any]) -> list[Any]:
        """No row, whatever is asked."""
        self.sql, self.params = sql, params
        return []


def birth(house: House) -> changes.Changes:
    """What creating an instance changes."""
    house.publish(STEP)
    request = StartRequest(sequence="t")
    with house.office.begin() as tx:
        run = newborn(house.office, request, *find(house.office, tx, request))
    begin(request)(run)
    return run.collected


def settlement(house: House) -> changes.Changes:
    """As of a step that has ended and is followed by another."""
    born = birth(house)
    return changes.Changes(
        settled=born.entered, entered=born.entered, advanced=born.created, audit=born.audit
    )


def ending(house: House) -> changes.Changes:
    """As of a step that has ended and was the last."""
    born = birth(house)
    return changes.Changes(settled=born.entered, advanced=born.created, audit=born.audit)


@pytest.mark.parametrize("made", [birth, settlement, ending])
def test_function_is_the_statement_of_all_changes(
    house: House, monkeypatch: pytest.MonkeyPatch, made: Callable[[House], changes.Changes]
) -> None:
    """Word by word: a column or a condition that only one of them has fails here. Then make a
    function with a new number in a migration, and name it in storage.kept.
    """
    recorder, change = Recorder(), made(house)
    changes.write(recorder, change)  # type: ignore[arg-type]
    kept = recorder.sql
    assert kept == KEPT[tuple(recorder.params)]
    monkeypatch.setattr(changes, "KEPT", {})
    changes.write(recorder, change)  # type: ignore[arg-type]
    statement = recorder.sql.replace(", false AS keyed", "")
    for number, name in enumerate(recorder.params, 1):
        for parameter in (f"%({name})s::json", f"%({name})s"):
            statement = statement.replace(parameter, f"${number}")
    name = kept.split("FROM ")[1].split("(")[0]
    (row,) = house.sql(f"SELECT prosrc FROM pg_proc WHERE proname = '{name}'")
    assert row.prosrc.split() == f"BEGIN RETURN QUERY {statement}; END".split()


def test_every_function_is_held_to_its_statement() -> None:
    """There are as many as the test above looks at."""
    assert len(KEPT) == 3
