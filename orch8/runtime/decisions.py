"""decisions: who may decide about an attempt in doubt; above the tenant's amount, two people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from orch8.blocks.step import Effect
from orch8.errors import Conflict, Forbidden, InvalidArgument, NotFound, Orch8Error, Problem
from orch8.runtime.office import Office
from orch8.runtime.resolve import Attempt, Decision, Judgement, carry_out, check, lock
from orch8.runtime.resolve import why_not as undecidable
from orch8.runtime.run import ENGINE
from orch8.storage import attention
from orch8.storage.changes import Changes, write
from orch8.storage.ids import uuid7
from orch8.storage.rows import AuditEntry, InstanceRow, StepRow
from orch8.storage.transaction import Row, Tx

MAX_REASON: Final = 1000
MAX_CURRENCIES: Final = 200
LARGEST_AMOUNT: Final = 2**53 - 1  # what every JSON reader keeps exactly
NOBODY: Final = frozenset({"", "api"})  # whom nobody named
OPEN: Final = "open"
_CURRENCY: Final = range(3, 11)  # letters of a currency: ISO 4217 has three, coins have more


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks for something, why, and in which request."""

    name: str
    reason: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """The instance after a decision was carried out, or the decision that waits for a second
    person.
    """

    instance: InstanceRow | None = None
    proposal: Row | None = None


def decide(
    office: Office, tx: Tx, instance_id: UUID, node_key: str, judgement: Judgement, *,
    tenant_id: str | None,
) -> Decided:  # fmt: skip
    """An attempt in doubt ends or goes on as decided; or, if its amount needs two people, the
    decision waits for the second. Raises Conflict when there is nothing to decide.
    """
    check_reason(judgement.reason)
    attempt = lock(tx, instance_id, node_key, tenant_id=tenant_id)
    check(office, tx, attempt, judgement)
    if judgement.decision is Decision.ASK_AGAIN:
        return Decided(carry_out(office, tx, attempt, judgement))
    _refuse_second_proposal(tx, attempt)
    if not two_people(tx, attempt.row):
        return Decided(carry_out(office, tx, attempt, judgement))
    _check_name(judgement.actor)
    return Decided(proposal=_propose(tx, attempt, judgement))


def confirm(
    office: Office, decision_id: UUID, actor: Actor, *, tenant_id: str | None
) -> InstanceRow:
    """What one person proposed another has confirmed, and it is carried out; the instance.

    Raises Forbidden for the person who proposed it, and Conflict if the attempt has changed since,
    which makes the decision stale. Both stand in the audit log.
    """
    check_reason(actor.reason)
    _check_name(actor.name)
    with office.begin() as tx:
        found = _confirmed(office, tx, decision_id, actor, tenant_id)
    if isinstance(found, Orch8Error):  # after the commit of the entry that tells of it
        raise found
    return found


def withdraw(office: Office, decision_id: UUID, actor: Actor, *, tenant_id: str | None) -> Row:
    """The decision is not carried out; another may be proposed."""
    check_reason(actor.reason)
    with office.begin() as tx:
        proposal, _ = _lock_proposal(tx, decision_id, tenant_id)
        if proposal.state != OPEN:
            raise Conflict(f"decision {decision_id} is {proposal.state} already")
        ended = attention.end_decision(
            tx, decision_id, "withdrawn", actor=actor.name, note=actor.reason
        )
        _note(tx, proposal, actor, "decision.withdrawn", "success")
    return ended


def two_people(tx: Tx, row: StepRow) -> bool:
    """Whether a decision about the attempt needs a second person, as its tenant's policy is now.

    Once somebody proposed one it does, whatever becomes of the policy: a threshold that is raised
    frees no attempt that people are deciding about.
    """
    policy = attention.policy_of(tx, row.tenant_id)
    thresholds = policy.two_person_above if policy is not None else {}
    return needs_two(row, thresholds) or attention.was_proposed(
        tx, row.instance_id, row.node_key, row.epoch
    )


def needs_two(row: StepRow, thresholds: Mapping[str, int]) -> bool:
    """Whether the attempt's amount is at or above its currency's threshold, in minor units.

    An attempt that moves money of which nobody said how much counts as a large one.
    """
    if not thresholds:
        return False
    money = row.money if isinstance(row.money, dict) else {}
    amount, currency = money.get("amount"), money.get("currency")
    if type(amount) is not int or not isinstance(currency, str):
        return Effect(row.effect) in (Effect.MONEY, Effect.IRREVOCABLE)
    threshold = thresholds.get(currency.upper())
    return threshold is not None and abs(amount) >= threshold


# -- the tenant's policy -------------------------------------------------------------------------
def put_policy(
    tx: Tx, tenant_id: str, two_person_above: Mapping[str, Any], *, actor: str,
    request_id: str | None = None,
) -> Row:  # fmt: skip
    """From now on decisions about these amounts, in minor units by currency, need two people."""
    thresholds = _thresholds(two_person_above)
    before = attention.put_policy(tx, tenant_id, thresholds, actor)
    body = {
        "before": {"two_person_above": before}, "after": {"two_person_above": thresholds},
    }  # fmt: skip
    entry = AuditEntry(
        tenant_id, actor, "policy.changed", "success", request_id=request_id, body=body
    )
    write(tx, Changes(audit=[entry]))
    return attention.policy_of(tx, tenant_id)


def check_reason(reason: str) -> None:
    """The reason says something, and fits the audit log."""
    if not reason.strip() or len(reason) > MAX_REASON:
        message = f"reason must have 1 to {MAX_REASON} characters: say how you know"
        raise InvalidArgument(message, errors=[Problem("/reason", message)])


def _thresholds(given: Mapping[str, Any]) -> dict[str, int]:
    problems = []
    if len(given) > MAX_CURRENCIES:
        problems.append(Problem("/two_person_above", f"at most {MAX_CURRENCIES} currencies"))
    for currency, amount in list(given.items())[: MAX_CURRENCIES + 1]:
        at = "/two_person_above/" + currency[:60].replace("~", "~0").replace("/", "~1")
        if not (len(currency) in _CURRENCY and currency.isascii() and currency.isalnum()
                and currency.isupper()):  # fmt: skip
            hint = 'such as "USD", in capitals'
            problems.append(Problem(at, f"{currency[:60]!r} is no currency", hint))
        if (
            not isinstance(amount, int)
            or isinstance(amount, bool)
            or not (0 <= amount <= LARGEST_AMOUNT)
        ):
            hint = "in minor units: 100000 is 1,000.00 USD; 0 means every decision"
            problems.append(Problem(at, "a threshold is a whole number, 0 or more", hint))
    if problems:
        raise InvalidArgument(problems[0].message, errors=problems)
    return dict(given)


# -- proposals -----------------------------------------------------------------------------------
def _refuse_second_proposal(tx: Tx, attempt: Attempt) -> None:
    """Only one decision about an attempt is open; one about the attempt as it was is stale now."""
    row = attempt.row
    for proposal in attention.decisions_of(tx, row.instance_id, row.node_key):
        if proposal.state != OPEN:
            continue
        if proposal.epoch == row.epoch:
            raise Conflict(
                f"{proposal.proposed_by} proposed {proposal.decision!r} already: confirm or "
                f"withdraw decision {proposal.id} first",
                extra={"decision_id": str(proposal.id)},
            )
        why = "the attempt has changed since"
        attention.end_decision(tx, proposal.id, "stale", actor=ENGINE, note=why)
        _note(tx, proposal, Actor(name=ENGINE, reason=why), "decision.stale", "failure")


def _propose(tx: Tx, attempt: Attempt, judgement: Judgement) -> Row:
    row = attempt.row
    proposal = attention.insert_decision(
        tx,
        {
            "id": uuid7(), "tenant_id": row.tenant_id, "instance_id": row.instance_id,
            "node_key": row.node_key, "epoch": row.epoch, "decision": judgement.decision.value,
            "output": judgement.output, "provider_ref": judgement.provider_ref,
            "reason": judgement.reason, "proposed_by": judgement.actor,
        },
    )  # fmt: skip
    actor = Actor(name=judgement.actor, reason=judgement.reason, request_id=judgement.request_id)
    _note(tx, proposal, actor, "decision.proposed", "deferred", money=row.money)
    return proposal


def _lock_proposal(tx: Tx, decision_id: UUID, tenant_id: str | None) -> tuple[Row, Attempt | None]:
    """The decision and its attempt, locked in the order in which everybody locks: instance, step,
    decision. The attempt is None when its instance has been deleted.
    """
    proposal = attention.read_decision(tx, decision_id)
    if proposal is None or (tenant_id is not None and proposal.tenant_id != tenant_id):
        raise NotFound(f"decision {decision_id}")
    try:
        attempt = lock(tx, proposal.instance_id, proposal.node_key, tenant_id=tenant_id)
    except NotFound:
        attempt = None
    return attention.lock_decision(tx, decision_id), attempt


def _confirmed(
    office: Office, tx: Tx, decision_id: UUID, actor: Actor, tenant_id: str | None
) -> InstanceRow | Orch8Error:
    """The instance; or the refusal, which has to be committed before it is told."""
    proposal, attempt = _lock_proposal(tx, decision_id, tenant_id)
    if proposal.state != OPEN:
        raise Conflict(f"decision {decision_id} is {proposal.state} already")
    if _same(actor.name, proposal.proposed_by):
        _note(tx, proposal, actor, "decision.refused", "denied")
        return Forbidden(
            f"{proposal.proposed_by} proposed this decision: another person has to confirm it"
        )
    if attempt is None or attempt.row.epoch != proposal.epoch or undecidable(attempt.row):
        attention.end_decision(tx, decision_id, "stale", actor=actor.name, note=actor.reason)
        _note(tx, proposal, actor, "decision.stale", "failure")
        return Conflict(
            "the attempt has changed since the decision was proposed: look again, and propose anew"
        )
    judgement = Judgement(
        decision=Decision(proposal.decision),
        actor=actor.name,
        reason=proposal.reason,
        output=proposal.output,
        provider_ref=proposal.provider_ref,
        request_id=actor.request_id,
        more={
            "decision_id": str(decision_id), "proposed_by": proposal.proposed_by,
            "confirmed_by": actor.name, "confirmed_because": actor.reason,
        },
    )  # fmt: skip
    _note(tx, proposal, actor, "decision.confirmed", "success")
    instance = carry_out(office, tx, attempt, judgement)
    attention.end_decision(tx, decision_id, "carried_out", actor=actor.name, note=actor.reason)
    return instance


def _check_name(name: str) -> None:
    """Two people can only be told apart by their names."""
    if name in NOBODY:
        hint = "send your name in the X-Actor header"
        raise InvalidArgument(
            f"this amount needs two people: who are you? {hint}",
            errors=[Problem("/actor", "this amount needs two people", hint)],
        )


def _same(one: str, other: str) -> bool:
    """Whether two names are one, however they are spelled."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _note(
    tx: Tx, proposal: Row, actor: Actor, action: str, outcome: str, *, money: Any = None
) -> None:
    body = {
        "decision_id": str(proposal.id), "decision": proposal.decision, "epoch": proposal.epoch,
        "proposed_by": proposal.proposed_by,
    }  # fmt: skip
    if money is not None:
        body["money"] = money
    entry = AuditEntry(
        proposal.tenant_id, actor.name, action, outcome, proposal.instance_id, proposal.node_key,
        reason=actor.reason, request_id=actor.request_id, body=body,
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))
