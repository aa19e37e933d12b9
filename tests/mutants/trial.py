"""A trial: every mutant against its tests, two at a time, after these have passed without any."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.mutant import Mutant, StaleMutant
from tests.mutants.workshop import Run, Workshop

UNMUTATED_WITHIN = 900.0  # seconds for all tests without a bug


class End(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"  # a test failed, as it should
    SURVIVED = "SURVIVED"  # no test noticed
    STALE = "stale"  # the code has moved under it
    BROKEN = "broken"  # its tests could not even run, which proves nothing


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one mutant; ``by`` is the test that noticed it, ``why`` what that said."""

    mutant: Mutant
    end: End
    seconds: float = 0.0
    by: str = ""
    why: str = ""


@contextmanager
def workshops(count: int) -> Iterator[Sequence[Workshop]]:
    """So many copies of the project, gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="orch8-mutants-") as folder:
        yield [Workshop(Path(folder) / str(number)) for number in range(count)]


def unmutated(workshop: Workshop, mutants: Sequence[Mutant]) -> Run:
    """What becomes of all their tests in the code as it is."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    return workshop.run(tests, within=UNMUTATED_WITHIN, stop=False)


def trial(
    shops: Sequence[Workshop], mutants: Sequence[Mutant], told: Callable[[Result], None]
) -> list[Result]:
    """The end of every mutant, in their order; ``told`` hears of each as it comes."""
    free: SimpleQueue[Workshop] = SimpleQueue()
    for shop in shops:
        free.put(shop)

    def one(mutant: Mutant) -> Result:
        shop = free.get()
        try:
            result = end_of(shop, mutant)
        finally:
            free.put(shop)
        told(result)
        return result

    with ThreadPoolExecutor(max_workers=len(shops)) as pool:
        return list(pool.map(one, mutants))


def end_of(shop: Workshop, mutant: Mutant) -> Result:
    """What becomes of one mutant."""
    try:
        with shop.seeded(mutant):
            run = shop.run(mutant.tests)
    except StaleMutant as problem:
        return Result(mutant, End.STALE, why=str(problem))
    if run.broken is not None:
        return Result(mutant, End.BROKEN, run.seconds, why=run.broken)
    if not run.failed:
        return Result(mutant, End.SURVIVED, run.seconds, why=f"{run.passed} tests passed")
    by, why = run.failed[0]
    return Result(mutant, End.KILLED, run.seconds, by, why)
