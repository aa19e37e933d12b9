"""Which migration a database is at, and which one this version of the code needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory

from orch8.storage.transaction import Tx


def present(tx: Tx) -> str | None:
    """The migration that the database is at, None if it was never migrated."""
    found = tx.one("SELECT to_regclass('alembic_version') IS NOT NULL AS there")
    if found is None or not found.there:
        return None
    row = tx.one("SELECT version_num FROM alembic_version")
    return None if row is None else row.version_num


@cache
def needed() -> str:
    """The newest migration that comes with the code."""
    newest = ScriptDirectory(str(Path(__file__).parent / "migrations")).get_current_head()
    assert newest is not None
    return newest
