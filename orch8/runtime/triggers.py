"""triggers: others start instances of a sequence by a name of it, some with a secret."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from orch8.errors import AlreadyExists, InvalidArgument, NotFound, Unauthorized
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.runtime.start import StartRequest, StartResult, start
from orch8.storage import triggers
from orch8.storage.transaction import Row, Tx


class Kind(StrEnum):
    """Where the events of a trigger come from. Only webhooks are taken in from outside."""

    WEBHOOK = "webhook"
    NATS = "nats"
    FILE_WATCH = "file_watch"
    EVENT = "event"
    ACTIVEPIECES_POLL = "activepieces_poll"


@dataclass(frozen=True, kw_only=True)
class TriggerRequest:
    """Which sequence a slug starts: the stated version, or else the newest that is not deprecated
    when it fires.
    """

    slug: str
    sequence_name: str
    tenant_id: str
    version: int | None = None
    namespace: str = "default"
    secret: str | None = None
    trigger_type: Kind = Kind.WEBHOOK
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Firing:
    """Why a trigger fires and with what. The same ``key`` starts nothing new; with ``strict_key``
    it must have the same payload.
    """

    payload: Any
    meta: Mapping[str, Any]
    key: str | None = None
    strict_key: bool = True
    actor: str
    request_id: str | None = None


def create(office: Office, tx: Tx, request: TriggerRequest, because: Because) -> Row:
    """The slug starts instances from now on. Raises NotFound for the sequence, and AlreadyExists if
    the slug is taken, by whichever tenant.
    """
    name, version = request.sequence_name, request.version
    if office.library.named(tx, request.tenant_id, request.namespace, name, version) is None:
        raise NotFound(f"sequence {name!r}; publish it first: POST /sequences")
    row = triggers.insert(tx, asdict(request))
    if row is None:
        raise AlreadyExists(f"trigger {request.slug!r}")
    _note(tx, row, "trigger.created", because)
    return row


def delete(tx: Tx, slug: str, because: Because, *, tenant_id: str | None) -> None:
    """The slug starts nothing any more. Raises NotFound."""
    row = found(tx, slug, tenant_id)
    triggers.delete(tx, slug)
    _note(tx, row, "trigger.deleted", because)


def found(tx: Tx, slug: str, tenant_id: str | None) -> Row:
    """The trigger. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = triggers.read(tx, slug, tenant_id)
    if row is None:
        raise NotFound(f"trigger {slug[:60]!r}")
    return row


def check_secret(trigger: Row, given: str) -> None:
    """Raises Unauthorized if the trigger has a secret and this is not it."""
    if trigger.secret and not hmac.compare_digest(trigger.secret.encode(), given.encode()):
        raise Unauthorized("send the trigger's secret in the x-trigger-secret header")


def fire(office: Office, trigger: Row, firing: Firing) -> StartResult:
    """An instance runs with the payload as its data; the earlier one if the key was used before.

    Raises InvalidArgument for a trigger that is disabled, and what start raises.
    """
    if not trigger.enabled:
        raise InvalidArgument(f"trigger {trigger.slug!r} is disabled")
    request = StartRequest(
        sequence=trigger.sequence_name,
        tenant_id=trigger.tenant_id,
        namespace=trigger.namespace,
        version=trigger.version,
        context={"data": firing.payload, "config": {}},
        idempotency_key=None if firing.key is None else key_of(trigger, firing.key),
        metadata={
            "_trigger": trigger.slug,
            "_trigger_type": trigger.trigger_type,
            "_trigger_event": dict(firing.meta),
        },
        actor=firing.actor,
        request_id=firing.request_id,
        strict_key=firing.strict_key,
    )
    return start(office, request)


def key_of(trigger: Row, key: str) -> str:
    """The idempotency key of the instance that a trigger's key stands for."""
    return f"trigger:{trigger.slug}:{key}"


def _note(tx: Tx, row: Row, action: str, because: Because) -> None:
    body = {
        "slug": row.slug, "sequence": row.sequence_name, "version": row.version,
        "trigger_type": row.trigger_type, "with_secret": row.secret is not None,
    }  # fmt: skip
    because.note(tx, row.tenant_id, action, body)
