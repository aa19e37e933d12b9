"""remedies: what can be done about a diagnosis, shown beforehand and then carried out.

A preview names what was found and the state it was found in: one that no longer holds does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from orch8.errors import InvalidArgument
from orch8.runtime.because import Because
from orch8.runtime.diagnosis import Diagnosis, diagnose
from orch8.runtime.finding import Action, Remedy
from orch8.runtime.office import Office
from orch8.runtime.retry import retry
from orch8.runtime.signal import SignalRequest, signal
from orch8.storage import instances
from orch8.storage.transaction import Tx

STALE: Final = "remediation preview is stale or does not belong to this instance"


@dataclass(frozen=True, slots=True)
class Preview:
    """One remedy of one finding, as it would be carried out."""

    id: str
    code: str
    number: int  # of the remedy among those of its finding
    remedy: Remedy
    expected_state: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done: the states before and right after it, and the lane that has work now."""

    preview: Preview
    before: str
    after: str
    applied_at: datetime
    lane: str


def previews(found: Diagnosis) -> list[Preview]:
    """The remedies of everything that was found, in its order; the same as long as it is so."""
    state = found.instance.state
    return [
        Preview(f"{found.instance.id}:{state}:{each.code}:{place}:{number}", each.code, number,
                remedy, state)
        for place, each in enumerate(found.findings)
        for number, remedy in enumerate(each.remedies)
    ]  # fmt: skip


def apply(
    office: Office, tx: Tx, instance_id: UUID, preview_id: str, because: Because, *,
    tenant_id: str | None, acknowledged: bool,
) -> Applied:  # fmt: skip
    """The remedy has been carried out. Raises NotFound for the instance, and InvalidArgument for a
    preview that is not one of now, that only a person can carry out, or whose risk nobody has
    ``acknowledged``.
    """
    instances.lock_instances(tx, [instance_id])
    found = diagnose(tx, instance_id, tenant_id=tenant_id)
    chosen = next((each for each in previews(found) if each.id == preview_id), None)
    if chosen is None:
        raise InvalidArgument(STALE)
    if chosen.remedy.action is Action.MANUAL:
        raise InvalidArgument(f"this must be completed manually: {chosen.remedy.summary}")
    if chosen.remedy.risky and not acknowledged:
        raise InvalidArgument(
            "acknowledge_side_effect_risk=true is required: what failed is called again"
        )
    if chosen.remedy.action is Action.RETRY:
        retry(
            office, tx, instance_id, tenant_id=tenant_id, actor=because.actor,
            reason=because.reason, request_id=because.request_id,
        )  # fmt: skip
    else:
        request = SignalRequest(
            control="resume", actor=because.actor, reason=because.reason,
            request_id=because.request_id,
        )  # fmt: skip
        signal(office, tx, instance_id, request, tenant_id=tenant_id)
    after = instances.read_instances(tx, [instance_id])[instance_id]
    return Applied(chosen, found.instance.state, after.state, found.generated_at, after.lane)
