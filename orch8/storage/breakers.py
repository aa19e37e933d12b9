"""Circuit breakers: how often a tenant's handler failed in a row, and when it is called again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from orch8.storage.months import span, within
from orch8.storage.transaction import Row, Tx, dumps

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
STATES: Final = (CLOSED, OPEN, HALF_OPEN)
WAITING: Final = "breaker"  # what a step waits for whose handler is left alone
MOST: Final = 1000
MOST_WOKEN: Final = 10_000  # at once, when a breaker closes; the rest comes at its own due time
At = tuple[str, str]  # tenant and handler


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of a handler. While it is not closed nothing is sent before ``retry_at``, and
    then one call, whose step is the ``probe``.
    """

    tenant_id: str
    handler: str
    failure_count: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    probe: UUID | None = None

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.opened_at is None:
            return CLOSED
        return OPEN if self.probe is None else HALF_OPEN


@dataclass(frozen=True, slots=True)
class Felt:
    """What the answer to a step's call says of its handler: ``well`` is None if nothing.

    ``threshold`` failures in a row open the breaker for ``cooldown`` seconds of business time.
    """

    tenant_id: str
    handler: str
    step_id: UUID
    well: bool | None
    at: datetime
    threshold: int
    cooldown: float


_SHOWN: Final = "tenant_id, handler, failure_count, opened_at, retry_at, probe"


def troubled(tx: Tx, limit: int = 10_000) -> list[Breaker]:
    """The breakers whose handler failed when it was last heard of: the open ones are among them."""
    sql = f"SELECT {_SHOWN} FROM circuit_breakers WHERE failure_count > 0 LIMIT %(limit)s"
    return [_breaker(row) for row in tx.rows(sql, {"limit": limit})]


def breakers(tx: Tx, tenant_id: str | None, limit: int = MOST) -> list[Breaker]:
    """The breakers of a tenant (None: of all), by tenant and handler."""
    sql = f"""SELECT {_SHOWN} FROM circuit_breakers
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY tenant_id, handler LIMIT %(limit)s"""
    return [_breaker(row) for row in tx.rows(sql, {"tenant": tenant_id, "limit": limit})]


def read(tx: Tx, tenant_id: str, handler: str) -> Breaker | None:
    """The breaker of a handler; None if that was never called."""
    row = tx.one(f"SELECT {_SHOWN} FROM circuit_breakers WHERE {_THIS}", _of(tenant_id, handler))
    return None if row is None else _breaker(row)


def opened(tx: Tx, tenant_id: str | None = None, limit: int = MOST) -> list[Breaker]:
    """The breakers of a tenant (None: of all) that are not closed, the longest open first."""
    sql = f"""SELECT {_SHOWN} FROM circuit_breakers
              WHERE failure_count > 0 AND opened_at IS NOT NULL
                  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              ORDER BY opened_at, tenant_id, handler LIMIT %(limit)s"""
    return [_breaker(row) for row in tx.rows(sql, {"tenant": tenant_id, "limit": limit})]


def meet(tx: Tx, handlers: Iterable[At]) -> None:
    """Each of these handlers, with its tenant, has a breaker."""
    tenants, names = zip(*sorted(handlers), strict=True)
    sql = """INSERT INTO circuit_breakers (tenant_id, handler)
             SELECT t, h FROM unnest(%(tenants)s::text[], %(names)s::text[]) AS r(t, h)
             ON CONFLICT (tenant_id, handler) DO NOTHING"""
    tx.run(sql, {"tenants": list(tenants), "names": list(names)})


def take_probe(
    tx: Tx, tenant_id: str, handler: str, step_id: UUID, now: datetime, again_at: datetime
) -> datetime | None:
    """None: the step may call the handler, whose breaker is closed or of which it is the probe now,
    alone until ``again_at``. Else when it is to ask again. Waits for nobody.
    """
    sql = f"SELECT {_SHOWN} FROM circuit_breakers WHERE {_THIS} FOR UPDATE SKIP LOCKED"
    row = tx.one(sql, _of(tenant_id, handler))
    if row is None:  # somebody writes to it right now
        return now + timedelta(seconds=1)
    if row.opened_at is None:
        return None
    if row.retry_at > now:
        return _breaker(row).retry_at
    sql = f"""UPDATE circuit_breakers SET probe = %(step)s, retry_at = %(again_at)s,
                  updated_at = clock_timestamp() WHERE {_THIS}"""
    tx.run(sql, {**_of(tenant_id, handler), "step": step_id, "again_at": again_at})
    return None


def record(tx: Tx, felt: Sequence[Felt]) -> None:
    """What answers said of their handlers, in their order, has been taken into account. Whoever
    waits for a breaker that has closed is due at once.

    One statement for each handler, in one order, and the last ones of their transaction: who waits
    for another here holds nothing that the other still wants.
    """
    ordered = sorted(felt, key=_at)  # which keeps the order of those of one handler
    for (tenant_id, handler), group in groupby(ordered, key=_at):
        own = list(group)
        last_well = max((n for n, each in enumerate(own) if each.well), default=-1)
        failures = sum(each.well is False for each in own[last_well + 1 :])
        if failures:
            _failed(tx, own[-1], failures, reset=last_well >= 0)
        elif last_well >= 0:
            close(tx, tenant_id, handler)
        else:
            _let_go(tx, own)


def close(tx: Tx, tenant_id: str, handler: str) -> bool:
    """The breaker is closed and its count 0, whatever it was; whether it was anything else."""
    sql = f"""UPDATE circuit_breakers SET failure_count = 0, opened_at = NULL, retry_at = NULL,
                  probe = NULL, updated_at = clock_timestamp()
              WHERE {_THIS} AND failure_count > 0"""
    changed = tx.run(sql, _of(tenant_id, handler)) > 0
    if changed:
        _wake(tx, tenant_id, handler)
    return changed


_THIS: Final = "tenant_id = %(tenant)s AND handler = %(handler)s"
_COUNT: Final = "CASE WHEN %(reset)s THEN 0 ELSE b.failure_count END + %(failures)s"
# An open breaker stays as it is while calls fail that were on their way; once its time is over, or
# its probe is on its way, a failure opens it anew.
_STAYS: Final = (
    "NOT %(reset)s AND b.opened_at IS NOT NULL AND b.probe IS NULL AND b.retry_at > %(at)s"
)
_FAIL: Final = f"""
INSERT INTO circuit_breakers AS b (tenant_id, handler, failure_count, opened_at, retry_at)
VALUES (%(tenant)s, %(handler)s, %(failures)s,
    CASE WHEN %(failures)s >= %(threshold)s THEN %(at)s::timestamptz END,
    CASE WHEN %(failures)s >= %(threshold)s THEN %(again_at)s::timestamptz END)
ON CONFLICT (tenant_id, handler) DO UPDATE SET failure_count = {_COUNT},
    opened_at = CASE WHEN {_STAYS} THEN b.opened_at
        WHEN {_COUNT} >= %(threshold)s THEN %(at)s::timestamptz END,
    retry_at = CASE WHEN {_STAYS} THEN b.retry_at
        WHEN {_COUNT} >= %(threshold)s THEN %(again_at)s::timestamptz END,
    probe = NULL, updated_at = clock_timestamp()"""


def _failed(tx: Tx, last: Felt, failures: int, *, reset: bool) -> None:
    params: dict[str, Any] = {
        "failures": failures, "reset": reset, "threshold": last.threshold, "at": last.at,
        "again_at": last.at + timedelta(seconds=last.cooldown),
        **_of(last.tenant_id, last.handler),
    }  # fmt: skip
    tx.run(_FAIL, params)


def _let_go(tx: Tx, own: Sequence[Felt]) -> None:
    """A probe that found nothing out is none any more: another may go at once."""
    sql = f"""UPDATE circuit_breakers SET probe = NULL, retry_at = %(at)s
              WHERE {_THIS} AND probe = ANY(%(steps)s::uuid[])"""
    at = _of(own[0].tenant_id, own[0].handler)
    tx.run(sql, {**at, "steps": [each.step_id for each in own], "at": own[-1].at})


def _wake(tx: Tx, tenant_id: str, handler: str) -> None:
    # A waiting step that somebody has locked is being looked at anyway.
    sql = f"""SELECT s.instance_id, s.node_key FROM steps s
              WHERE s.tenant_id = %(tenant)s AND s.handler = %(handler)s
                  AND s.waits_for = '{WAITING}' AND s.due_at > orch8_now()
              ORDER BY s.due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED"""
    found = tx.rows(sql, {**_of(tenant_id, handler), "most": MOST_WOKEN})
    if not found:
        return
    # A statement of its own: one that does not know its instances would look into every month.
    sql = f"""UPDATE steps s SET due_at = orch8_now()
              FROM json_to_recordset(%(keys)s::json) AS r(i uuid, k text)
              WHERE s.instance_id = r.i AND s.node_key = r.k AND {within("s.instance_id")}"""
    keys = [{"i": row.instance_id, "k": row.node_key} for row in found]
    tx.run(sql, {"keys": dumps(keys)} | span(row.instance_id for row in found))


def _of(tenant_id: str, handler: str) -> dict[str, Any]:
    return {"tenant": tenant_id, "handler": handler}


def _at(felt: Felt) -> At:
    return felt.tenant_id, felt.handler


def _breaker(row: Row) -> Breaker:
    return Breaker(*row)
