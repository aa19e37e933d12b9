"""Mutants of how an answer is read and what is concluded from it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_PYTHON: Final = "tests/unit/test_handlers_python.py::"
_DOUBTS: Final = "tests/integration/test_money_doubts.py::"
_PUSH: Final = "tests/integration/test_push.py::"
_CLASSIFY: Final = "tests/unit/test_handlers_classify.py::"
_ANSWERS: Final = "tests/integration/test_runtime_answers.py::"
_TIMERS: Final = "tests/integration/test_runtime_timers.py::"
_GENERIC: Final = "orch8/money/data/presets/generic.json"

MUTANTS: Final = (
    Mutant(
        "time_out_is_failure",
        "A charge that timed out is taken for one that did not happen.",
        "orch8/handlers/http.py",
        "verdict = Verdict.FAILED_SAFE if call.method in READS else Verdict.UNKNOWN",
        "verdict = Verdict.FAILED_SAFE",
        (f"{_PUSH}test_time_out_after_the_effect_is_unknown",),
    ),
    Mutant(
        "unknown_counted_as_a_failure",
        "An answer that says nothing uses up an attempt, and fails the step in the end.",
        "orch8/runtime/ruling.py",
        "    if answer.verdict in _OPEN_ENDED and case.effect.repeatable:\n",
        "    if answer.verdict in _OPEN_ENDED:\n",
        (f"{_ANSWERS}test_answer_that_says_nothing_is_asked_for_again_under_the_same_key",),
    ),
    Mutant(
        "server_error_is_a_decline",
        "A 500 after the effect is taken for a decline.",
        "orch8/handlers/classify.py",
        "        verdict = verdict_of(response.status)\n",
        "        by_status = verdict_of(response.status)\n"
        "        verdict = Verdict.DECLINED if response.status // 100 == 5 else by_status\n",
        (f"{_CLASSIFY}test_status_alone_gives_the_verdict_of_the_table",),
    ),
    Mutant(
        "conflict_is_success",
        "A 409 of which nothing is known is taken for: it exists.",
        _GENERIC,
        '{"status": [408, 409, 425], "outcome": "unknown"',
        '{"status": [408, 409, 425], "outcome": "succeeded"',
        (f"{_CLASSIFY}test_status_alone_gives_the_verdict_of_the_table",),
    ),
    Mutant(
        "unreadable_success",
        "A 200 that nobody can read completes the step, without an output.",
        "orch8/handlers/classify.py",
        "    if body is UNREADABLE and verdict_of(response.status) is Verdict.SUCCEEDED:\n"
        "        verdict, judged",
        "    if False:\n        verdict, judged",
        (f"{_CLASSIFY}test_unreadable_2xx_is_unknown",),
    ),
    Mutant(
        "contradicting_body_believed",
        "A 4xx whose body claims success is taken for one.",
        "orch8/handlers/classify.py",
        "if hundred == 2 or (hundred == 4 and verdict in BY_OUTCOME_OF_4XX):",
        "if hundred in (2, 4):",
        (f"{_CLASSIFY}test_body_of_a_4xx_may_claim_no_effect",),
    ),
    Mutant(
        "later_refusal_ends_a_doubt",
        "A second dispatch is refused, and the first, which charged, is forgotten.",
        "orch8/runtime/answering.py",
        "doubted = row.outcome in _MAY_HAVE_RUN and not Effect(row.effect).repeatable",
        "doubted = False",
        (f"{_ANSWERS}test_answer_in_doubt_never_becomes_a_failure",),
    ),
    Mutant(
        "odd_output_fails_the_charge",
        "A charge whose output is not what was expected is taken for one that failed.",
        "orch8/runtime/answering.py",
        "verdict = Verdict.FAILED if Effect(row.effect).repeatable else Verdict.UNKNOWN",
        "verdict = Verdict.FAILED",
        (f"{_ANSWERS}test_answer_that_the_schema_refuses_is_in_doubt",),
    ),
    Mutant(
        "exception_of_a_handler_is_failure",
        "A handler in Python breaks after its charge, and the charge is taken for a failure.",
        "orch8/handlers/python.py",
        "unsure = Verdict.FAILED_SAFE if effect in EFFECTLESS else Verdict.UNKNOWN",
        "unsure = Verdict.FAILED_SAFE",
        (f"{_PYTHON}test_exception_says_what_surely_happened_or_nothing",),
    ),
    Mutant(
        "existing_effect_not_fetched",
        "A provider says that it exists already: the step completes without what it came to.",
        "orch8/runtime/answering.py",
        'if got.evidence.get("fetch") and on_unknown(run, row).handler is not None:',
        "if False:",
        (f"{_DOUBTS}test_effect_that_exists_already_is_fetched_before_it_counts",),
    ),
    Mutant(
        "deadline_fails_a_doubt",
        "A charge that may have been made fails because its deadline passed.",
        "orch8/runtime/claim.py",
        "overdue = late and not in_doubt(row)",
        "overdue = late",
        (f"{_TIMERS}test_deadline_never_fails_a_call_in_doubt",),
    ),
)
