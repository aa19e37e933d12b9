"""What an answer means for its step: done, try again, wait, find out, or ask a person. Pure.

An answered failure is counted and bounded by the retry policy. An answer that is not known never
becomes a failure of a call that may have had an effect: it is found out as the step's `on_unknown`
says, by sending the same key again while the provider surely knows it, by asking a handler that
reads, or by a person (IN_DOUBT rules 4 to 9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from orch8.blocks.money import OnUnknown, Policy
from orch8.blocks.step import Effect
from orch8.engine.outcome import CANCELLED, COMPLETED, Answer, Outcome, Status, Verdict
from orch8.engine.retry import GIVE_UP, Retry, RetryPolicy, backoff, decide

DEFAULT_KEY_TTL: Final = 24 * 3600.0
# A handler service that is being deployed should not fail a payment that states no policy.
PUSH_DEFAULT: Final = RetryPolicy(
    max_attempts=5, initial=timedelta(seconds=1), max_backoff=timedelta(minutes=1)
)
_RESEND: Final = RetryPolicy(initial=timedelta(seconds=1), max_backoff=timedelta(minutes=5))
_LONGEST_PAUSE: Final = 3600.0  # seconds that an answer may ask for before the key is sent again
_OPEN_ENDED: Final = frozenset({Verdict.UNKNOWN, Verdict.IN_PROGRESS})
_COMPLETES: Final = frozenset({Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION})


@dataclass(frozen=True, slots=True)
class Complete:
    """The step ends like this; ``output`` is its memo."""

    outcome: Outcome
    output: Any = None


@dataclass(frozen=True, slots=True)
class Again:
    """The step is dispatched again after a while: ``counted`` says whether that used up an attempt,
    ``fresh`` whether the next dispatch is a new attempt with a new key.
    """

    after: timedelta
    counted: bool
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """The step waits for word from outside."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """The step's read handler is asked after a while what became of the attempt."""

    after: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """The step needs a person."""

    reason: str


Ruling = Complete | Again | Keep | Ask | Park
RETRY_SAME_KEY: Final = OnUnknown(Policy.RETRY_SAME_KEY)  # for steps that say nothing (rule 13)
# A provider that says "still at it" knows the key, so sending it again is a question. Up to so many
# times in a row, then the step's own policy is followed.
_MOST_IN_PROGRESS: Final = 20


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a step when an answer to it comes in. ``failures`` are those before it."""

    effect: Effect
    policy: RetryPolicy
    failures: int
    dispatches: int
    first_dispatched_at: datetime | None
    now: datetime
    timeout: float
    entropy: float
    key_ttl: float = DEFAULT_KEY_TTL
    cancelling: bool = False
    retry_if: bool | None = None
    on_unknown: OnUnknown = RETRY_SAME_KEY


def rule(case: Case, answer: Answer) -> Ruling:
    """The one thing that ``answer`` leads to."""
    if answer.verdict in _OPEN_ENDED and case.effect.repeatable:
        answer = replace(answer, verdict=Verdict.FAILED_SAFE)
    if answer.verdict is Verdict.PENDING:
        asks = case.on_unknown.handler is not None and not case.effect.repeatable
        return Ask(case.on_unknown.schedule[0], "pending") if asks else Keep("pending")
    if answer.verdict in _OPEN_ENDED:
        return _unknown(case, answer)
    if case.cancelling:
        return (
            Complete(COMPLETED, answer.output)
            if answer.verdict in _COMPLETES
            else Complete(CANCELLED)
        )
    if answer.verdict in _COMPLETES and answer.verdict not in case.policy.on:
        return Complete(COMPLETED, answer.output)
    again = decide(case.policy, answer, case.failures + 1, case.retry_if, entropy=case.entropy)
    if isinstance(again, Retry):
        return Again(again.after, counted=True, fresh=answer.verdict in _COMPLETES)
    assert again == GIVE_UP
    if answer.verdict in _COMPLETES:
        return Complete(COMPLETED, answer.output)
    error = dict(answer.error or {"message": f"the handler answered {answer.verdict}"})
    return Complete(Outcome(Status.FAILED, error))


def _unknown(case: Case, answer: Answer) -> Ruling:
    after = max(
        backoff(case.policy, 1, case.entropy) if case.dispatches <= 1 else timedelta(),
        backoff(_RESEND, min(case.dispatches, 20), case.entropy),
        timedelta(seconds=min(answer.retry_after or 0.0, _LONGEST_PAUSE)),
    )
    running = answer.verdict is Verdict.IN_PROGRESS and case.dispatches <= _MOST_IN_PROGRESS
    return in_doubt(case, after, resend=running)


def in_doubt(case: Case, after: timedelta, *, resend: bool = False) -> Again | Ask | Park:
    """How an attempt is found out about that may have had its effect; its key may be sent again
    ``after`` a while, with ``resend`` even if the step's policy is another.
    """
    own = case.on_unknown
    if resend or own.policy is Policy.RETRY_SAME_KEY:
        sent_at = case.first_dispatched_at
        if sent_at is None or key_holds(sent_at, case.key_ttl, case.now + after, case.timeout):
            return Again(after, counted=False)
    policy = own.then if own.policy is Policy.RETRY_SAME_KEY else own.policy
    if policy is Policy.RECONCILE:
        return Ask(own.schedule[0], "outcome_unknown")
    return Park("outcome_unknown")


def key_holds(
    first_dispatched_at: datetime, ttl: float, again_at: datetime, timeout: float
) -> bool:
    """Whether the provider surely still knows the attempt's key when it is sent again (rule 6)."""
    margin = max(ttl * 0.1, 300.0)
    ends_at = first_dispatched_at + timedelta(seconds=max(ttl - margin, 0.0))
    return again_at + timedelta(seconds=timeout) < ends_at
