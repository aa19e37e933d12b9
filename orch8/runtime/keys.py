"""Idempotency keys: one per attempt, the same on every dispatch of it and after a restore."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from uuid import UUID

import orjson

from orch8.errors import ConfigurationError
from orch8.storage.rows import InstanceRow, StepRow


def new_attempt(row: StepRow) -> None:
    """The next dispatch is a new attempt: its key and its request are made anew."""
    row.generation += 1
    row.progress = {**(row.progress or {}), "previous_key": row.idempotency_key}
    row.idempotency_key = row.fingerprint = row.request = row.first_dispatched_at = None
    row.last_dispatched_at = row.provider_ref = None
    row.dispatches = 0


class KeyMaker:
    """Derives keys from the secret: nobody can guess one, and nothing needs to be stored to make
    the same one again. The secret must outlive the database.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ConfigurationError(
                "ORCH8_KEY_SECRET is not set: make one with `openssl rand -hex 32` and keep it "
                "for as long as the database, since every idempotency key depends on it"
            )
        self._tenant = lru_cache(maxsize=4096)(
            lambda tenant: hmac.new(
                hmac.digest(secret.encode(), tenant.encode(), hashlib.sha256),
                digestmod=hashlib.sha256,
            )
        )

    def key(
        self,
        instance: InstanceRow,
        sequence_name: str,
        step: StepRow,
        *,
        per_iteration: bool = False,
    ) -> str:
        """The key of the step's present attempt, as a UUID: HMAC over tenant, sequence, the
        instance's own key (or else its id), fork, node, round and, unless the key is to be the same
        for every attempt of an iteration, generation.
        """
        subject = orjson.dumps(
            [
                instance.tenant_id, sequence_name, instance.idempotency_key or str(instance.id),
                instance.fork_id, step.node_key, step.round,
                None if per_iteration else step.generation,
            ]
        )  # fmt: skip
        keyed = self._tenant(instance.tenant_id).copy()
        keyed.update(subject)
        return str(UUID(bytes=keyed.digest()[:16], version=4))
