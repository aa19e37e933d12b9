"""The seeded bugs of `make mutants` still fit the code. Whether tests notice them takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import BY_SUBJECT, MUTANTS
from tests.mutants.mutant import Mutant, StaleMutant

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "deploy" / "docs" / "mutants.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_code(mutant: Mutant) -> None:
    """Its old text stands there once, the code with the bug compiles, and its tests exist."""
    mutant.check(ROOT)


def test_mutants_have_names_of_their_own() -> None:
    """A name is enough to run one again."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_mutants_are_all_in_the_docs() -> None:
    """The page names each of them, and none that is gone."""
    rows = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [mutant.name for mutant in MUTANTS]
    headings = [line[4:] for line in DOCUMENT.read_text("utf-8").splitlines() if line[:4] == "### "]
    assert headings == list(BY_SUBJECT)


def test_mutant_that_does_not_fit_any_more_says_what_to_do() -> None:
    """A text that is gone, or is there twice, is no place for a bug."""
    mutant = Mutant("m", "It breaks.", "orch8/x.py", "a = 1", "a = 2", ())
    for source in ("b = 1", "a = 1\na = 1"):
        with pytest.raises(StaleMutant, match=r"m: its old text occurs \d times .* bring the"):
            mutant.changed(source)
