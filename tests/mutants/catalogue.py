"""All mutants, by what they attack."""

from __future__ import annotations

from typing import Final

from tests.mutants.bugs import approvals, claims, doubts, fences, keys, people, sending, verdicts
from tests.mutants.mutant import Mutant

BY_SUBJECT: Final[dict[str, tuple[Mutant, ...]]] = {
    "Claims and commits": claims.MUTANTS,
    "Keys and requests": keys.MUTANTS,
    "Sending": sending.MUTANTS,
    "Verdicts": verdicts.MUTANTS,
    "Attempts in doubt": doubts.MUTANTS,
    "Fences and budgets": fences.MUTANTS,
    "People and words from outside": people.MUTANTS,
    "Approvals and waits for events": approvals.MUTANTS,
}
MUTANTS: Final = tuple(mutant for group in BY_SUBJECT.values() for mutant in group)
