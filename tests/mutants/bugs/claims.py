"""Mutants of claims, late answers and the one commit."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_SIGNALS: Final = "tests/integration/test_runtime_signals.py::"
_SETTLE: Final = "tests/integration/test_runtime_settle.py::"
_EVIDENCE: Final = "tests/integration/test_runtime_evidence.py::"
_MINE: Final = "tests/integration/test_money_claims.py::"

MUTANTS: Final = (
    Mutant(
        "epoch_not_checked",
        "A result under an old claim counts as the answer of a step that was sent again since.",
        "orch8/runtime/settle.py",
        "return (epoch, state) == (claimed.epoch, claimed.state) and state in _OPEN",
        "return state in _OPEN",
        (f"{_SETTLE}test_settle_keeps_an_old_answer_as_evidence_only",),
    ),
    Mutant(
        "epoch_not_counted",
        "Two claims of a step have the same number, so nobody can tell an old one from the new.",
        "orch8/runtime/claim.py",
        "    row.epoch += 1\n",
        "    row.epoch = max(row.epoch, 1)\n",
        (f"{_SETTLE}test_settle_keeps_an_old_answer_as_evidence_only",),
    ),
    Mutant(
        "late_answer_ends_a_step_that_is_in_flight",
        "A late answer settles a step that is being sent again right now.",
        "orch8/runtime/late.py",
        "idle = now.state in LIVE and (now.state != StepState.RUNNING or now.asking is not None)",
        "idle = now.state in LIVE",
        (f"{_SETTLE}test_settle_keeps_an_old_answer_as_evidence_only",),
    ),
    Mutant(
        "late_answer_of_another_attempt",
        "A late answer to an attempt that was given up settles the attempt that took its place.",
        "orch8/runtime/late.py",
        "same = (now.idempotency_key, now.generation) == "
        "(claimed.idempotency_key, claimed.generation)",
        "same = now.node_key == claimed.node_key",
        (f"{_MINE}test_late_answer_of_an_attempt_that_was_given_up_is_an_incident",),
    ),
    Mutant(
        "late_answer_forgotten",
        "A worker that lost its lease comes back and knows how the call ended: nobody listens.",
        "orch8/runtime/late.py",
        "    if resolves(now, claimed, came):\n        return now\n",
        "",
        (f"{_EVIDENCE}test_late_answer_of_a_worker_that_lost_its_lease_resolves_the_doubt",),
    ),
    Mutant(
        "audit_in_a_commit_of_its_own",
        "The audit log tells of an end that the database then refuses to write.",
        "orch8/runtime/settle.py",
        "    write(tx, changes)\n    result.settled",
        "    with office.begin() as other:\n"
        "        write(other, Changes(audit=changes.audit))\n"
        "    changes.audit = []\n"
        "    write(tx, changes)\n    result.settled",
        (f"{_SETTLE}test_settle_writes_all_or_nothing",),
    ),
    Mutant(
        "audit_entry_dropped",
        "A payment ends and the audit log does not know of it.",
        "orch8/storage/changes.py",
        '    add(_AUDIT, "audit", [_entry(entry, _AUDIT_NAMES) for entry in changes.audit])\n',
        "",
        (f"{_SETTLE}test_settle_runs_a_sequence_to_its_end",),
    ),
    Mutant(
        "output_overwritten_in_its_batch",
        "Two answers in one batch: the second ends a step that the first has ended already.",
        "orch8/runtime/settle.py",
        "    if row.state not in (LIVE if item.late else _OPEN):  "
        "# ended by what came before it\n        return\n",
        "",
        (f"{_SETTLE}test_settle_does_not_overwrite_what_its_batch_has_ended",),
    ),
    Mutant(
        "cancel_drops_a_call_in_flight",
        "Cancelling ends a charge whose answer is on its way, and nobody refunds it.",
        "orch8/runtime/run.py",
        "        if unresolved and not Effect(row.effect).repeatable:\n            return False\n",
        "",
        (f"{_SIGNALS}test_cancel_awaits_a_charge_in_flight_and_refunds_it",),
    ),
    Mutant(
        "cancel_drops_a_doubt",
        "Cancelling ends a charge that may have been made, since no call is in flight any more.",
        "orch8/runtime/run.py",
        "unresolved = row.state == StepState.RUNNING or row.outcome in UNRESOLVED",
        "unresolved = row.state == StepState.RUNNING",
        (f"{_SIGNALS}test_cancel_asks_on_for_a_charge_in_doubt",),
    ),
)
