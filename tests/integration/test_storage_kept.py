"""Statements that are functions of the database: they do what the statement of all changes does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read months of steps or instances."""
    if (
        plan.get("Relation Name", "").startswith(("steps_", "instances_"))
        and "Scan" in plan["Node Type"]
    ):
        yield plan
    for below in plan.get("Plans", ()):
        yield from scans(below)


def test_plan_that_is_kept_looks_rows_up_though_it_was_made_for_an_empty_month(
    house: House,
) -> None:
    """Once a month is known to be empty, going through all of it looks as good; then it fills."""
    house.sql("ANALYZE steps, instances")
    (known,) = house.sql("""SELECT max(reltuples) AS most FROM pg_class
        WHERE relkind = 'r' AND relname ~ '^(steps|instances)_20'""")
    assert known.most == 0
    functions = house.sql("""
        SELECT proname AS name, prosrc AS body, proconfig AS settings,
            pg_get_function_identity_arguments(oid) AS arguments
        FROM pg_proc WHERE 'enable_seqscan=off' = ANY(proconfig) ORDER BY proname""")
    assert len(functions) == 4
    for each in functions:
        statement = each.body.split("BEGIN")[1].replace("RETURN QUERY", "").rsplit(";", 1)[0]
        types = [argument.split()[-1] for argument in each.arguments.split(", ")]
        given = ", ".join("'[]'" if kind == "json" else f"'{UUID(int=0)}'" for kind in types)
        (row,) = house.sql(
            "".join(f"SET LOCAL {setting};" for setting in each.settings)
            + f"PREPARE kept ({', '.join(types)}) AS {statement};"
            + f"EXPLAIN (FORMAT JSON) EXECUTE kept ({given})"
        )
        found = list(scans(row[0][0]["Plan"]))
        assert found, each.name
        assert [scan for scan in found if "Index Cond" not in scan] == [], each.name
