"""Statements that come all the time and are functions of the database, which keeps their plans.

To parse and plan a statement that writes five tables takes as long as to carry it out, and there
is no PREPARE behind a PgBouncer that hands connections on. A function's plan is kept by each
server connection. What a function does is the statement itself: a test holds them to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LOCK_CLAIMS: Final = "SELECT * FROM orch8_lock_claims_44(%(low)s, %(high)s, %(keys)s)"
MARK_CLAIMED: Final = "SELECT orch8_mark_claimed_44(%(low)s, %(high)s, %(rows)s)"


def by_key(column: str, value: str) -> str:
    """The condition that ``column``, the first of its table's key, is ``value`` of another table.

    It means what ``=`` means. From an equality the planner would also know in which order the index
    has the rows, and may plan to go through all of it: while a month is empty, that looks best. The
    plan is kept, and the month fills.
    """
    return f"{column} = ANY(ARRAY[{value}])"


# Usual cases of the statement that writes all changes, by the parameters that it would have, in
# their order. Whoever changes what one of its parts does makes a function with a new number, in a
# migration: processes of the version before go on with the old one until they have ended.
KEPT: Final[Mapping[tuple[str, ...], str]] = {
    ("entered", "created", "contexts", "audit"): """
    SELECT id, false AS keyed FROM orch8_create_43(
        %(entered)s, %(created)s, %(contexts)s, %(audit)s) AS made(id)""",
    ("low", "high", "settled", "entered", "advanced", "audit"): """
    SELECT id, false AS keyed FROM orch8_settle_44(
        %(low)s, %(high)s, %(settled)s, %(entered)s, %(advanced)s, %(audit)s) AS made(id)""",
    ("low", "high", "settled", "advanced", "audit"): """
    SELECT id, false AS keyed FROM orch8_end_44(
        %(low)s, %(high)s, %(settled)s, %(advanced)s, %(audit)s) AS made(id)""",
}
