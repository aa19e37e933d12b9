"""Mutants of what is done about an attempt whose end is not known."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CLAIMS: Final = "tests/integration/test_money_claims.py::"
_RECONCILE: Final = "tests/integration/test_runtime_reconcile.py::"
_DOUBTS: Final = "tests/integration/test_money_doubts.py::"

MUTANTS: Final = (
    Mutant(
        "absence_believed_at_once",
        "A charge that is still on its way is not found, and sent once more.",
        "orch8/runtime/reconcile.py",
        "return row.last_dispatched_at is None or run.now >= _settled_at(run, row)",
        "return True",
        (f"{_RECONCILE}test_reconcile_believes_an_absence_only_when_it_is_confirmed",),
    ),
    Mutant(
        "absence_believed_when_said_once",
        "One look of a search that is behind is enough to charge again.",
        "orch8/runtime/reconcile.py",
        "if seen >= on_unknown(run, row).confirmations:",
        "if seen >= 1:",
        (f"{_RECONCILE}test_reconcile_believes_an_absence_only_when_it_is_confirmed",),
    ),
    Mutant(
        "absence_while_the_call_may_run",
        "With a short settle_delay an absence counts though the call itself may still be running.",
        "orch8/runtime/reconcile.py",
        "return row.last_dispatched_at + max(quarantine, delay)",
        "return row.last_dispatched_at + delay",
        (f"{_DOUBTS}test_absence_means_nothing_while_the_call_may_still_arrive",),
    ),
    Mutant(
        "absence_counted_from_the_first_send",
        "An absence counts by the age of the first dispatch though the last one was just now.",
        "orch8/runtime/reconcile.py",
        "return row.last_dispatched_at + max(quarantine, delay)",
        "return (row.first_dispatched_at or row.last_dispatched_at) + max(quarantine, delay)",
        (f"{_DOUBTS}test_absence_counts_from_the_last_dispatch",),
    ),
    Mutant(
        "cannot_tell_taken_for_no",
        "A search that is down, or answers nonsense, is taken for: it did not happen.",
        "orch8/runtime/reconcile.py",
        '        return Finding("cannot_tell", why=str(why)[:500])',
        '        return Finding("no", why=str(why)[:500])',
        (f"{_RECONCILE}test_reconcile_that_never_finds_out_goes_to_a_person",),
    ),
    Mutant(
        "still_pending_taken_for_an_end",
        "The search finds a payment that is still pending: it is taken for an end.",
        "orch8/runtime/reconcile.py",
        'settled = finding.found == "yes" and finding.verdict not in _STILL_OPEN',
        'settled = finding.found == "yes"',
        (f"{_DOUBTS}test_payment_that_is_found_pending_is_asked_about_again",),
    ),
    Mutant(
        "absent_charge_under_a_forgotten_key",
        "An absent charge is sent under a key that the provider may have forgotten.",
        "orch8/runtime/reconcile.py",
        "    if not still_known(run, row):\n        new_attempt(row)\n",
        "",
        (
            (
                f"{_RECONCILE}test_reconcile_sends_an_absent_charge_under_a_new_key"
                "_when_the_old_one_is_forgotten"
            ),
        ),
    ),
    Mutant(
        "absent_charge_always_under_a_new_key",
        "An absent charge gets a new key though the old one would have protected it.",
        "orch8/runtime/reconcile.py",
        "    if not still_known(run, row):\n        new_attempt(row)\n",
        "    new_attempt(row)\n",
        (f"{_RECONCILE}test_reconcile_believes_an_absence_only_when_it_is_confirmed",),
    ),
    Mutant(
        "absent_charge_of_a_cancelled_instance",
        "A charge of a cancelled instance that did not happen is made after all.",
        "orch8/runtime/reconcile.py",
        "    if run.cancelling(row.key):\n",
        "    if False:\n",
        (f"{_RECONCILE}test_reconcile_of_a_cancelled_charge_that_did_not_happen_ends_it",),
    ),
    Mutant(
        "exhausted_schedule_fails",
        "Nobody could tell what became of a charge, so it is called failed.",
        "orch8/runtime/reconcile.py",
        '        park(run, row, "reconcile_exhausted", Verdict.UNKNOWN)\n',
        '        error = {"message": "nobody could tell"}\n'
        "        answer(run, row.key, Answer(Verdict.FAILED, error=error))\n",
        (f"{_RECONCILE}test_reconcile_that_never_finds_out_goes_to_a_person",),
    ),
    Mutant(
        "parked_doubt_fails",
        "A charge whose key is not to be sent again is called failed instead of shown to a person.",
        "orch8/runtime/ruling.py",
        '    return Park("outcome_unknown")\n',
        '    return Complete(Outcome(Status.FAILED, {"message": "unknown"}))  # type: ignore\n',
        (f"{_CLAIMS}test_provider_that_keeps_no_keys_is_not_sent_to_twice",),
    ),
    Mutant(
        "question_counts_as_a_dispatch",
        "Asking about a charge is written down as sending it once more.",
        "orch8/runtime/claim.py",
        "    if row.asking is None:\n        dispatched(run, row)\n    return prepare",
        "    dispatched(run, row)\n    return prepare",
        (f"{_RECONCILE}test_reconcile_adopts_what_happened",),
    ),
    Mutant(
        "question_under_the_charge_s_key",
        "The question is sent under the key of the charge: the provider replays, or refuses.",
        "orch8/runtime/preparing.py",
        'idempotency_key=str(uuid5(row.id, f"{row.generation}/{row.epoch}")),',
        'idempotency_key=row.idempotency_key or "",',
        (f"{_RECONCILE}test_reconcile_tells_the_handler_all_that_is_known",),
    ),
    Mutant(
        "pause_stops_the_questions",
        "Pausing an instance leaves its charge in doubt for as long as the pause lasts.",
        "orch8/storage/steps.py",
        'AND held_due_at IS NULL AND asking IS NULL"""',
        'AND held_due_at IS NULL"""',
        (f"{_RECONCILE}test_reconcile_goes_on_during_a_pause",),
    ),
)
