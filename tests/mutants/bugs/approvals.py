"""Mutants of steps that wait for a person's answer, or for events."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_GATES: Final = "tests/contract/test_16_gates.py::"
_EVENTS: Final = "tests/contract/test_24_events.py::"

MUTANTS: Final = (
    Mutant(
        "anything_approves",
        "A signal that names none of the choices lets the call be made.",
        "orch8/runtime/approving.py",
        "        if value is not None:\n",
        "        if True:\n",
        (f"{_GATES}test_anything_else_is_consumed_and_ignored",),
    ),
    Mutant(
        "real_run_approves_itself",
        "A client that says dry_run_auto_approve of a real run has its payments approved unseen.",
        "orch8/runtime/approving.py",
        'given.get("dry_run") is True and given.get("dry_run_auto_approve") is True',
        'given.get("dry_run_auto_approve") is True',
        (f"{_GATES}test_no_other_run_answers_by_itself",),
    ),
    Mutant(
        "approval_of_something_else",
        "What was approved counts for a retry although the amount has changed since.",
        "orch8/runtime/consent.py",
        'given is not None and given["context_version"] == run.row.context_version',
        "given is not None",
        (f"{_GATES}test_retry_asks_again_when_the_context_has_changed",),
    ),
    Mutant(
        "task_offered_before_its_approval",
        "A pull worker is handed a step that nobody has approved yet.",
        "orch8/runtime/entering.py",
        "    if consent.lacking(run, row, block):\n        run.schedule(row, due)\n    elif route",
        "    if route",
        (f"{_GATES}test_gated_task_is_not_offered_before_the_answer",),
    ),
    Mutant(
        "approver_unknown",
        "The audit log says that the engine approved what a person did.",
        "orch8/runtime/approving.py",
        "_go_on(run, row, value, actor=signal.actor, comment=_comment(signal.payload))",
        "_go_on(run, row, value)",
        (f"{_GATES}test_audit_log_tells_who_answered_what_and_why",),
    ),
    Mutant(
        "event_counts_twice",
        "One payment event lets two instances go on that one worker began together.",
        "orch8/runtime/event_waits.py",
        "if tx.turns.setdefault(about, run.row.id) != run.row.id or not stored",
        "if not stored",
        (f"{_EVENTS}test_two_waits_in_one_transaction_share_nothing",),
    ),
    Mutant(
        "event_lost_with_its_wait",
        "A wait that ran out of time keeps its event, and the retry never sees it.",
        "orch8/runtime/consent.py",
        "        event_waits.give_up(run, row)\n",
        "        event_waits.go_on(run, row)\n",
        (f"{_EVENTS}test_timeout_of_the_gate_ends_the_wait",),
    ),
    Mutant(
        "event_wakes_nobody",
        "A step has all the events that it waits for, and sleeps on.",
        "orch8/runtime/event_waits.py",
        "Changes(woken=[(wait.instance_id, wait.node_key) for wait in done.values()])",
        "Changes()",
        (f"{_EVENTS}test_step_waits_until_its_event_is_told",),
    ),
)
