"""reseal: what an older key opens, or anybody can read, is sealed with the present one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from orch8.errors import ConfigurationError
from orch8.storage import credentials, instances, resealing, signals, steps, triggers
from orch8.storage.instances import Page
from orch8.storage.transaction import Database

BATCH = 200
_PAGED: Final[tuple[Callable[..., Page], ...]] = (
    instances.reseal_contexts,
    signals.reseal,
    steps.reseal_requests,
    *(partial(resealing.reseal, kept) for kept in resealing.KEPT),
)


def reseal(database: Database, *, progress: Callable[[int], None]) -> int:
    """Everything that is sealed at all is sealed with the present key; how many rows were not.

    Runs beside workers that have both keys; each batch is a transaction of its own, so that one
    that was interrupted goes on where it stopped. Raises ConfigurationError without a key.
    """
    if not database.cipher.seals:
        raise ConfigurationError("ORCH8_ENCRYPTION_KEY is not set: seal with which key?")
    done = 0
    for few in (credentials.reseal, triggers.reseal):
        while True:
            with database.begin() as tx:
                sealed = few(tx, BATCH)
            if not sealed:
                break
            done += sealed
    for many in _PAGED:
        with database.begin() as tx:
            sealed, after = many(tx, BATCH)
        done += sealed
        while after is not None:
            with database.begin() as tx:
                sealed, after = many(tx, BATCH, after)
            done += sealed
            progress(done)
    return done
