"""Attempts on instruments, as card networks count them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.money.networks import NetworkAttempt
from orch8.storage.transaction import Tx

MAX_HISTORY: Final = 2000  # attempts, the newest first: more than a guard counts to


@dataclass(frozen=True, slots=True)
class Counted:
    """One attempt that is being sent. If it is again, it counts from then on."""

    instance_id: UUID
    node_key: str
    generation: int
    tenant_id: str
    network: str
    instrument: str
    merchant: str
    amount: int | None
    currency: str | None
    at: datetime


Judged = tuple[UUID, str, int, str]  # instance, node key, generation, verdict

# Parts of the one statement of storage/changes.py.
COUNT: Final = """counted AS (
    INSERT INTO network_attempts (instance_id, node_key, generation, tenant_id, network,
        instrument, merchant, amount, currency, at)
    SELECT instance_id, node_key, generation, tenant_id, network, instrument, merchant, amount,
        currency, at
    FROM json_to_recordset(%(counted)s::json) AS r(instance_id uuid, node_key text,
        generation smallint, tenant_id text, network text, instrument text, merchant text,
        amount bigint, currency text, at timestamptz)
    ON CONFLICT (instance_id, node_key, generation) DO UPDATE
        SET at = excluded.at, verdict = NULL)"""
JUDGE: Final = """judged AS (
    UPDATE network_attempts a SET verdict = r.verdict
    FROM json_to_recordset(%(judged)s::json)
        AS r(instance_id uuid, node_key text, generation smallint, verdict text)
    WHERE a.instance_id = r.instance_id AND a.node_key = r.node_key
        AND a.generation = r.generation)"""


def counted_rows(counted: list[Counted]) -> list[dict[str, Any]]:
    """The rows for COUNT: of several of one attempt the last, for one statement writes it once."""
    newest = {(each.instance_id, each.node_key, each.generation): each for each in counted}
    return [{name: getattr(each, name) for name in _NAMES} for each in newest.values()]


def judged_rows(judged: list[Judged]) -> list[dict[str, Any]]:
    """The rows for JUDGE: of several of one attempt the last."""
    newest = {each[:3]: each for each in judged}
    names = ("instance_id", "node_key", "generation", "verdict")
    return [dict(zip(names, each, strict=True)) for each in newest.values()]


_NAMES: Final = tuple(Counted.__slots__)
_HISTORY = """
(SELECT at, network, merchant, amount, currency, verdict FROM network_attempts
    WHERE tenant_id = %(tenant)s AND instrument = %(instrument)s AND at > %(since)s
        AND verdict IS DISTINCT FROM 'void'
    ORDER BY at DESC LIMIT %(limit)s)
UNION ALL
(SELECT at, network, merchant, amount, currency, verdict FROM network_attempts
    WHERE tenant_id = %(tenant)s AND instrument = %(instrument)s AND at <= %(since)s
        AND verdict = 'barred'
    ORDER BY at DESC LIMIT %(limit)s)"""


def attempts_on(tx: Tx, tenant_id: str, instrument: str, since: datetime) -> list[NetworkAttempt]:
    """The attempts on an instrument after ``since`` that may have reached its network, in all
    instances of a tenant, and those of any time that the network forbids to repeat.
    """
    wanted = {
        "tenant": tenant_id, "instrument": instrument, "since": since, "limit": MAX_HISTORY,
    }  # fmt: skip
    return [NetworkAttempt(*row) for row in tx.rows(_HISTORY, wanted)]
