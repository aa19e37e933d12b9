"""The business clock of development mode."""

from __future__ import annotations

from datetime import datetime

from orch8.storage.transaction import Tx


def set_clock(tx: Tx, business_at: datetime, rate: float) -> None:
    """Business time is ``business_at`` now and runs ``rate`` times as fast as real time."""
    sql = """INSERT INTO dev_clock (real_at, business_at, rate) VALUES (now(), %(at)s, %(rate)s)
             ON CONFLICT (singleton) DO UPDATE SET real_at = excluded.real_at,
                 business_at = excluded.business_at, rate = excluded.rate"""
    tx.run(sql, {"at": business_at, "rate": rate})
