"""Mutants of what webhooks, signals and people may say about an attempt."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_RESOLVE: Final = "tests/integration/test_runtime_resolve.py::"
_WORDS: Final = "tests/integration/test_money_words.py::"
_EVIDENCE: Final = "tests/integration/test_runtime_evidence.py::"
_DECISIONS: Final = "tests/integration/test_runtime_decisions.py::"

MUTANTS: Final = (
    Mutant(
        "contrary_word_overwrites",
        "A webhook that contradicts what is recorded changes it.",
        "orch8/runtime/evidence.py",
        "    if generation == row.generation and open_to_words(row):\n",
        "    if generation == row.generation:\n",
        (f"{_EVIDENCE}test_word_that_contradicts_what_is_recorded_is_an_incident",),
    ),
    Mutant(
        "contrary_word_unheard",
        "A webhook contradicts what is recorded, and nobody is told.",
        "orch8/runtime/doubts.py",
        "    if said not in _CONCLUSIVE or Effect(now.effect).repeatable:\n        return None\n",
        "    return None\n",
        (f"{_EVIDENCE}test_word_that_contradicts_what_is_recorded_is_an_incident",),
    ),
    Mutant(
        "second_charge_of_a_retry_unheard",
        "A charge that was given up turns out to have succeeded beside its successor: silence.",
        "orch8/runtime/doubts.py",
        "recorded = now.outcome if generation == now.generation else _GIVEN_UP",
        "recorded = now.outcome",
        (f"{_EVIDENCE}test_word_about_an_attempt_that_was_given_up_is_an_incident",),
    ),
    Mutant(
        "word_about_an_older_attempt",
        "A webhook about an attempt that was given up ends the one that took its place.",
        "orch8/runtime/evidence.py",
        "    if generation == row.generation and open_to_words(row):\n",
        "    if open_to_words(row):\n",
        (f"{_WORDS}test_word_about_an_older_attempt_does_not_end_the_present_one",),
    ),
    Mutant(
        "word_of_another_tenant",
        "A tenant's word ends another tenant's charge.",
        "orch8/runtime/evidence.py",
        "if row is None or instance is None or row.tenant_id != tenant_id:",
        "if row is None or instance is None:",
        (f"{_WORDS}test_word_of_another_tenant_that_names_the_step_is_unmatched",),
    ),
    Mutant(
        "word_told_twice_counts_twice",
        "A webhook that is delivered twice is taken for two words.",
        "orch8/runtime/evidence.py",
        "if word.event_id and attempts.seen_before(tx, instance_id, node_key, word.event_id):",
        "if False:",
        (f"{_EVIDENCE}test_word_that_was_told_before_is_seen",),
    ),
    Mutant(
        "threshold_off_by_one",
        "An amount that is just at the threshold is decided by one person.",
        "orch8/runtime/decisions.py",
        "abs(amount) >= threshold",
        "abs(amount) > threshold",
        (f"{_DECISIONS}test_threshold_is_one_of_its_currency",),
    ),
    Mutant(
        "amount_unknown_is_small",
        "A charge of which nobody said how much is decided by one person.",
        "orch8/runtime/decisions.py",
        "        return Effect(row.effect) in (Effect.MONEY, Effect.IRREVOCABLE)\n",
        "        return False\n",
        (f"{_DECISIONS}test_threshold_is_one_of_its_currency",),
    ),
    Mutant(
        "one_person_is_two",
        "Whoever proposes a decision confirms it, too.",
        "orch8/runtime/decisions.py",
        "    if _same(actor.name, proposal.proposed_by):\n",
        "    if False:\n",
        (f"{_DECISIONS}test_nobody_confirms_what_they_proposed",),
    ),
    Mutant(
        "stale_decision_carried_out",
        "A decision is carried out on an attempt that has changed since it was proposed.",
        "orch8/runtime/decisions.py",
        "if attempt is None or attempt.row.epoch != proposal.epoch or undecidable(attempt.row):",
        "if attempt is None:",
        (f"{_DECISIONS}test_decision_about_an_attempt_that_went_on_is_stale",),
    ),
    Mutant(
        "decision_about_what_nobody_saw",
        "A person decides about an attempt as it was, and it has changed since.",
        "orch8/runtime/resolve.py",
        "    if judgement.epoch is not None and judgement.epoch != row.epoch:\n",
        "    if False:\n",
        (f"{_DECISIONS}test_decision_about_an_attempt_that_has_changed_is_refused",),
    ),
    Mutant(
        "decision_during_a_call",
        "A person decides that a charge did not happen while its call is in flight.",
        "orch8/runtime/resolve.py",
        "    if row.state == StepState.RUNNING:\n"
        '        return "a call is in flight: wait for its answer, or for the end of its lease"\n',
        "",
        (f"{_WORDS}test_nobody_decides_while_the_call_is_in_flight",),
    ),
    Mutant(
        "person_retries_under_a_forgotten_key",
        "A person lets a charge be sent again under a key that the provider may have forgotten.",
        "orch8/runtime/resolve.py",
        "    if not still_known(run, row):\n        new_attempt(row)\n",
        "",
        (f"{_RESOLVE}test_resolve_sends_what_did_not_happen_under_a_new_key",),
    ),
)
