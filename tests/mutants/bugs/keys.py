"""Mutants of idempotency keys and of the requests that go with them."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ANSWERS: Final = "tests/integration/test_runtime_answers.py::"
_SETTLE: Final = "tests/integration/test_runtime_settle.py::"
_RECONCILE: Final = "tests/integration/test_runtime_reconcile.py::"
_UNIT: Final = "tests/unit/test_money_keys.py::"
_REQUESTS: Final = "tests/integration/test_money_requests.py::"

MUTANTS: Final = (
    Mutant(
        "fresh_key_on_retry",
        "Every technical retry has a key of its own: the provider charges each of them.",
        "orch8/runtime/answering.py",
        "    if fresh:\n        new_attempt(row)\n",
        "    new_attempt(row)\n",
        (f"{_ANSWERS}test_answer_that_failed_safely_is_tried_again_under_the_same_key",),
    ),
    Mutant(
        "fresh_key_after_a_lost_answer",
        "A charge whose answer was lost is sent again under a new key.",
        "orch8/runtime/answering.py",
        "    if fresh:\n        new_attempt(row)\n",
        "    if fresh or got.verdict in UNRESOLVED:\n        new_attempt(row)\n",
        (f"{_ANSWERS}test_answer_that_says_nothing_is_asked_for_again_under_the_same_key",),
    ),
    Mutant(
        "fresh_key_after_a_lost_claim",
        "A charge whose worker died is sent again under a new key.",
        "orch8/runtime/settle.py",
        "        row.outcome = Verdict.UNKNOWN.value\n    run.schedule(row, run.now)\n",
        "        row.outcome = Verdict.UNKNOWN.value\n"
        "        row.generation += 1\n"
        "        row.idempotency_key = row.fingerprint = row.request = None\n"
        "    run.schedule(row, run.now)\n",
        (f"{_SETTLE}test_settle_keeps_an_old_answer_as_evidence_only",),
    ),
    Mutant(
        "key_at_random",
        "A database that is restored to ten minutes ago sends its charges under other keys.",
        "orch8/runtime/keys.py",
        "        return str(UUID(bytes=keyed.digest()[:16], version=4))",
        "        return str(__import__('uuid').uuid4())",
        (f"{_UNIT}test_key_is_the_same_after_a_restore",),
    ),
    Mutant(
        "key_from_the_instance_s_id",
        "An order that its client places anew after a restore is charged again under another key.",
        "orch8/runtime/keys.py",
        "instance.idempotency_key or str(instance.id),",
        "str(instance.id),",
        (f"{_UNIT}test_key_follows_the_order_and_not_the_row",),
    ),
    Mutant(
        "key_without_its_tenant_s_secret",
        "Whoever knows an instance can work out its keys.",
        "orch8/runtime/keys.py",
        "hmac.digest(secret.encode(), tenant.encode(), hashlib.sha256)",
        "hmac.digest(b'orch8', tenant.encode(), hashlib.sha256)",
        (f"{_UNIT}test_key_cannot_be_made_without_the_secret",),
    ),
    Mutant(
        "key_of_the_block",
        "Every iteration of a loop has the first one's key: only the first month is charged.",
        "orch8/runtime/keys.py",
        "instance.fork_id, step.node_key, step.round,",
        "instance.fork_id, step.block_id, step.round,",
        (f"{_UNIT}test_key_differs_wherever_another_effect_is_meant",),
    ),
    Mutant(
        "decline_retried_under_its_key",
        "A declined charge is tried again under the key that brings the decline back forever.",
        "orch8/runtime/ruling.py",
        "counted=True, fresh=answer.verdict in _COMPLETES)",
        "counted=True, fresh=False)",
        (f"{_ANSWERS}test_answer_that_declines_is_tried_with_a_new_key_if_asked_to",),
    ),
    Mutant(
        "round_inherits_any_key",
        "A retry by a person sends the key that brings the old refusal back.",
        "orch8/runtime/entering.py",
        "        and before.outcome in _KEEPS_KEY\n",
        "",
        (f"{_REQUESTS}test_refused_charge_has_a_new_key_when_a_person_retries_it",),
    ),
    Mutant(
        "request_rendered_anew",
        "A charge is sent again with another amount, since the context has changed meanwhile.",
        "orch8/runtime/preparing.py",
        "request, body = _frozen(run, row) or _rendered(run, row, block)",
        "request, body = _rendered(run, row, block)",
        (f"{_RECONCILE}test_frozen_request_is_sent_again_byte_for_byte",),
    ),
    Mutant(
        "changed_request_sent",
        "Another request goes out under a key that the provider knows.",
        "orch8/runtime/preparing.py",
        "    if row.fingerprint not in (None, fingerprint) and not effect.repeatable:\n",
        "    if False:\n",
        (f"{_REQUESTS}test_changed_request_is_not_sent_under_the_same_key",),
    ),
    Mutant(
        "own_key_repeated",
        "A new attempt whose own key comes to the old one again is sent: the decline comes back.",
        "orch8/runtime/preparing.py",
        'if key == (row.progress or {}).get("previous_key") and not wishes.per_iteration:',
        "if False:",
        (f"{_REQUESTS}test_key_of_one_s_own_must_change_with_the_attempt",),
    ),
)
