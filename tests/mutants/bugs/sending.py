"""Mutants of the last steps before a request leaves, and of the time after it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_PUSH: Final = "tests/integration/test_push.py::"
_ANSWERS: Final = "tests/integration/test_runtime_answers.py::"
_TIMERS: Final = "tests/integration/test_runtime_timers.py::"
_RECONCILE: Final = "tests/integration/test_runtime_reconcile.py::"
_RULING: Final = "tests/unit/test_money_ruling.py::"
_CLAIMS: Final = "tests/integration/test_money_claims.py::"

MUTANTS: Final = (
    Mutant(
        "second_send_by_libcurl",
        "libcurl repeats a charge by itself when a kept-alive connection closes.",
        "orch8/handlers/http.py",
        "        if self.sends:\n            self.repeated = True\n",
        "        if False:\n            self.repeated = True\n",
        (f"{_PUSH}test_kept_alive_connection_that_hangs_up_executes_once_without_keys",),
    ),
    Mutant(
        "lease_not_checked_on_the_wire",
        "A request leaves after the lease of its claim has ended, beside the next worker's.",
        "orch8/handlers/http.py",
        "if self.not_after is not None and time.monotonic() >= self.not_after:",
        "if False:",
        (f"{_PUSH}test_deadline_in_the_past_is_not_sent",),
    ),
    Mutant(
        "lease_not_checked_before_a_function",
        "A handler in Python runs though the lease of its claim has ended.",
        "orch8/runtime/crew.py",
        "        if time.monotonic() >= until:\n            return Deferral()\n",
        "",
        (f"{_CLAIMS}test_function_is_not_called_after_the_lease",),
    ),
    Mutant(
        "key_age_not_looked_at",
        "A key is sent again when the provider may have forgotten it: a second charge.",
        "orch8/runtime/ruling.py",
        "        if sent_at is None or key_holds("
        "sent_at, case.key_ttl, case.now + after, case.timeout):\n",
        "        if True:\n",
        (f"{_ANSWERS}test_answer_is_not_asked_for_when_the_key_may_be_forgotten",),
    ),
    Mutant(
        "key_age_ignores_the_wait",
        "A key is young enough now and too old when its next dispatch is due.",
        "orch8/runtime/ruling.py",
        "key_holds(sent_at, case.key_ttl, case.now + after, case.timeout)",
        "key_holds(sent_at, case.key_ttl, case.now, case.timeout)",
        (f"{_ANSWERS}test_answer_is_not_asked_for_when_the_key_may_be_forgotten",),
    ),
    Mutant(
        "key_age_not_looked_at_when_claimed",
        "The engine was down for two days, and sends a forgotten key as if nothing had happened.",
        "orch8/runtime/preparing.py",
        "        if row.outcome in UNRESOLVED and not effect.repeatable "
        "and not still_known(run, row):\n",
        "        if False:\n",
        (f"{_RECONCILE}test_policy_retry_then_reconcile_asks_when_the_key_may_be_forgotten",),
    ),
    Mutant(
        "key_age_without_margin",
        "A key is sent in the last minute of its life, by whoever's clock.",
        "orch8/runtime/ruling.py",
        "    margin = max(ttl * 0.1, 300.0)\n",
        "    margin = 0.0\n",
        (f"{_RULING}test_key_is_not_sent_near_the_end_of_its_life",),
    ),
    Mutant(
        "key_age_ignores_the_time_out",
        "A key is sent that the provider may forget while the call is under way.",
        "orch8/runtime/ruling.py",
        "return again_at + timedelta(seconds=timeout) < ends_at",
        "return again_at < ends_at",
        (f"{_RULING}test_key_must_outlive_the_call",),
    ),
    Mutant(
        "key_of_a_provider_that_keeps_none",
        "A provider that replays nothing is sent the same charge again.",
        "orch8/runtime/horizon.py",
        '    if block.idempotency.replay == "none":\n        return 0.0\n',
        "",
        (f"{_CLAIMS}test_provider_that_keeps_no_keys_is_not_sent_to_twice",),
    ),
    Mutant(
        "dispatch_forgets_when_it_first_was",
        "Each dispatch makes its key young again: the guard never ends.",
        "orch8/runtime/claim.py",
        "    if row.first_dispatched_at is None:\n        row.first_dispatched_at = run.now\n",
        "    row.first_dispatched_at = run.now\n",
        (f"{_CLAIMS}test_key_is_as_old_as_its_first_dispatch",),
    ),
    Mutant(
        "lost_claim_sent_whatever_the_policy",
        "A claim lost between intent and answer is sent again though its step says: ask first.",
        "orch8/runtime/settle.py",
        "    elif isinstance(lost(run, row), Again):\n",
        "    elif True:\n",
        (f"{_RECONCILE}test_reconcile_of_a_lost_claim_asks_before_it_sends",),
    ),
    Mutant(
        "lost_claim_taken_for_unsent",
        "A worker's death is read as: nothing was sent.",
        "orch8/runtime/settle.py",
        "    if row.dispatches:\n        row.outcome = Verdict.UNKNOWN.value\n",
        "    row.outcome = Verdict.NOT_SENT.value\n",
        (f"{_TIMERS}test_claim_of_a_lost_process_is_taken_back_under_the_same_key",),
    ),
)
