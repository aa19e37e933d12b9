"""Statements that are functions of the database: they do what the statement of all changes does."""

from __future__ import annotations

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


def test_function_that_creates_is_the_statement_of_all_changes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word by word: a column or a condition that only one of them has fails here. Then make a
    function with a new number in a migration, and name it in storage.kept.
    """
    recorder, made = Recorder(), birth(house)
    changes.write(recorder, made)  # type: ignore[arg-type]
    (kept,) = KEPT.values()
    assert recorder.sql == kept
    monkeypatch.setattr(changes, "KEPT", {})
    changes.write(recorder, made)  # type: ignore[arg-type]
    statement = recorder.sql.replace("SELECT id, false AS keyed FROM", "SELECT id FROM")
    for number, name in enumerate(recorder.params, 1):
        statement = statement.replace(f"%({name})s::json", f"${number}")
    name = kept.split("FROM ")[1].split("(")[0]
    (row,) = house.sql(f"SELECT prosrc FROM pg_proc WHERE proname = '{name}'")
    assert row.prosrc.split() == f"BEGIN RETURN QUERY {statement}; END".split()
