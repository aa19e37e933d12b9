"""What a mutant is: one seeded bug, as data, and the tests that have to notice it."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path


class StaleMutant(Exception):
    """The code has changed under a mutant: what it replaces is gone, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: in ``file`` the text ``old``, which stands there once, becomes ``new``.

    ``breaks`` says in a sentence what goes wrong then, ``tests`` are pytest node ids, without
    parameters, of which at least one has to fail.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def changed(self, source: str) -> str:
        """The file's text with the bug in it. Raises StaleMutant when it does not fit any more."""
        found = source.count(self.old)
        if found != 1:
            raise StaleMutant(
                f"{self.name}: its old text occurs {found} times in {self.file}, not once; if the "
                "code has moved, bring the mutant's old and new text up to date with it"
            )
        return source.replace(self.old, self.new)

    def check(self, root: Path) -> None:
        """The mutant fits the sources under ``root``, what it makes of them compiles, and its tests
        exist. Raises StaleMutant, or SyntaxError.
        """
        text = self.changed((root / self.file).read_text(encoding="utf-8"))
        if self.file.endswith(".json"):
            json.loads(text)
        else:
            ast.parse(text, self.file)
        for test in self.tests:
            path, _, function = test.partition("::")
            named = f"def {function}("
            if not function or named not in (root / path).read_text(encoding="utf-8"):
                raise StaleMutant(f"{self.name}: there is no test {test}")
