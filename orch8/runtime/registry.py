"""registry: what operators state about handlers, rate limits and published versions."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from orch8.blocks.step import Effect
from orch8.errors import InvalidArgument, NotFound, Problem
from orch8.handlers import ssrf
from orch8.handlers.registry import HANDLERS
from orch8.limits.grant import DEFAULT_SLACK, Limit
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.routes import pull_lane
from orch8.storage import fleet, pulls, rate_limits, sequences
from orch8.storage.changes import Changes, write
from orch8.storage.rows import AuditEntry
from orch8.storage.transaction import Row, Tx


def put_handler(
    office: Office, name: str, *, tenant_id: str, url: str | None, effect: str | None = None,
    timeout: float | None = None, actor: str, request_id: str | None = None,
) -> Row:  # fmt: skip
    """From now on a tenant's handler is reached at this address: POST <url>/<name>; what waited for
    a pull worker goes there too. Without an address it waits for pull workers. Raises SsrfBlocked
    for an internal address, unless those are allowed.
    """
    if name in HANDLERS:
        raise InvalidArgument(f"{name!r} is a built-in handler; choose another name")
    if effect is not None and effect not in set(Effect):
        known = ", ".join(Effect)
        raise InvalidArgument(
            f"effect must be one of {known}",
            errors=[Problem("/effect", "unknown effect", f"use one of {known}")],
        )
    if url is not None:
        ssrf.check_url(url, allow_internal=office.settings.allow_internal_urls)
    with office.begin() as tx:  # after the check, which asks the network
        row = fleet.put_handler(tx, tenant_id, name, url=url, effect=effect, timeout=timeout)
        if url is not None:
            pulls.offer_to_push(tx, pull_lane(tenant_id, name, None))
        body = {"name": name, "url": url, "effect": effect}
        _note(tx, tenant_id, actor, "handler.registered", body, request_id=request_id)
    office.routes.forget()
    return row


def delete_handler(office: Office, tx: Tx, name: str, *, tenant_id: str, actor: str) -> None:
    """The handler's address is forgotten."""
    if not fleet.delete_handler(tx, tenant_id, name):
        raise NotFound(f"handler {name!r}")
    office.routes.forget()
    _note(tx, tenant_id, actor, "handler.removed", {"name": name})


def put_limit(
    tx: Tx, key: str, *, tenant_id: str, maximum: int | None = None, window: float | None = None,
    slack: float | None = None, max_in_flight: int | None = None, actor: str,
) -> None:  # fmt: skip
    """From now on no more than ``maximum`` calls in any ``window`` seconds share the key, ``slack``
    seconds being allowed for the road, and no more than ``max_in_flight`` at a time, whatever
    sequences say; None leaves that to them. Known to every worker within a second. Raises Conflict
    when the tenant has too many keys.
    """
    limit = Limit(
        key, maximum, window or 1.0, DEFAULT_SLACK if slack is None else slack,
        max_in_flight=max_in_flight,
    )  # fmt: skip
    told = stated(limit)
    rate_limits.put(tx, tenant_id, rate_limits.OPERATOR, [told])
    body = {
        "key": key, "max": told.maximum, "window_seconds": told.window,
        "slack_seconds": told.slack, "max_in_flight": told.max_in_flight,
    }  # fmt: skip
    _note(tx, tenant_id, actor, "limit.changed", body)


def stated(limit: Limit) -> rate_limits.Stated:
    """The limit as it is written down."""
    window = None if limit.max is None else limit.window
    return rate_limits.Stated(limit.key, limit.max, window, limit.slack, limit.max_in_flight)


def delete_limit(tx: Tx, key: str, *, tenant_id: str, actor: str) -> None:
    """The key is limited by what sequences say again."""
    if not rate_limits.delete(tx, tenant_id, key):
        raise NotFound(f"rate limit {key!r}")
    _note(tx, tenant_id, actor, "limit.removed", {"key": key})


def deprecate(
    office: Office, tx: Tx, sequence_id: UUID, *, tenant_id: str | None, actor: str
) -> None:
    """The version is no longer found by name; its instances go on."""
    published = found(office, tx, sequence_id, tenant_id=tenant_id)
    sequences.deprecate(tx, sequence_id)
    _note(
        tx, published.tenant_id, actor, "sequence.deprecated",
        {"name": published.name, "version": published.version}, sequence_id,
    )  # fmt: skip


def found(office: Office, tx: Tx, sequence_id: UUID, *, tenant_id: str | None) -> Published:
    """The version. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    published, _ = office.library.standing_now(tx, sequence_id)
    if tenant_id is not None and published.tenant_id != tenant_id:
        raise NotFound(f"sequence {sequence_id}")
    return published


def _note(
    tx: Tx,
    tenant_id: str,
    actor: str,
    action: str,
    body: Mapping[str, object],
    sequence_id: UUID | None = None,
    request_id: str | None = None,
) -> None:
    entry = AuditEntry(
        tenant_id, actor, action, "success",
        sequence_id=sequence_id, request_id=request_id, body=body,
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))
