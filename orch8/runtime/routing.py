"""routing: operators say in which queue tasks are offered, and which addresses are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orch8.errors import InvalidArgument, NotFound, Problem, Unavailable
from orch8.handlers.ssrf import check_url
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.storage import pushes, routing
from orch8.storage.transaction import Row, Tx

POLL, PUSH = routing.MODES


def create_rule(office: Office, tx: Tx, rule: Mapping[str, Any], because: Because) -> Row:
    """Tasks that are offered from now on follow the rule, within a second in every process."""
    row = routing.insert_rule(tx, rule)
    office.queues.forget()
    because.note(tx, row.tenant_id, "routing_rule.created", _told(row))
    return row


def found_rule(tx: Tx, rule_id: UUID, tenant_id: str | None) -> Row:
    """The rule. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = routing.rule(tx, rule_id, tenant_id)
    if row is None:
        raise NotFound(f"routing rule {rule_id}")
    return row


def delete_rule(
    office: Office, tx: Tx, rule_id: UUID, because: Because, *, tenant_id: str | None
) -> None:
    """Tasks that are offered from now on do not follow the rule. Raises NotFound."""
    row = found_rule(tx, rule_id, tenant_id)
    routing.delete_rule(tx, rule_id)
    office.queues.forget()
    because.note(tx, row.tenant_id, "routing_rule.deleted", _told(row))


def check_queue(office: Office, queue: Mapping[str, Any]) -> None:
    """The queue can be what is said of it. Raises InvalidArgument, SsrfBlocked for an address that
    must not be called, and Unavailable where a secret could only be kept in the clear. Asks the
    network, so no transaction should be open.
    """
    url = queue.get("push_url")
    if queue["mode"] == PUSH and url is None:
        message = "push_url is required for the mode push"
        raise InvalidArgument(message, errors=[Problem("/push_url", message)])
    if url is not None:
        check_url(url, allow_internal=office.settings.allow_internal_urls)
    if queue.get("secret") and not office.cipher.seals and not office.settings.insecure:
        raise Unavailable(
            "secrets are not kept in the clear: set ORCH8_ENCRYPTION_KEY (openssl rand -hex 32)"
        )


def put_queue(office: Office, tx: Tx, queue: Mapping[str, Any], because: Because) -> Row:
    """The queue is polled only, or its address is told of tasks that are offered from now on."""
    row = routing.put_queue(tx, queue)
    if row.mode == POLL:
        pushes.forget(tx, row.tenant_id, row.queue_name)
    office.queues.forget()
    because.note(tx, row.tenant_id, "queue.changed", _told(row))
    return row


def delete_queue(office: Office, tx: Tx, tenant_id: str, queue: str, because: Because) -> None:
    """The queue is polled only. Raises NotFound if nothing was said about it."""
    if not routing.delete_queue(tx, tenant_id, queue):
        raise NotFound(f"queue {queue[:100]!r}")
    pushes.forget(tx, tenant_id, queue)
    office.queues.forget()
    because.note(tx, tenant_id, "queue.removed", {"queue": queue})


def _told(row: Row) -> dict[str, Any]:
    """The row as the audit log tells of it."""
    times = ("created_at", "updated_at", "tenant_id")
    return {name: value for name, value in row._asdict().items() if name not in times}
