"""A copy of the project in which one bug at a time is seeded and the tests are run."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final
from xml.etree import ElementTree as ET

from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parent.parent.parent
WITHIN: Final = 300.0  # seconds for the tests of one mutant
_EACH: Final = 60  # seconds for one of its tests
_COPIED: Final = ("orch8", "api", "workers", "tests", "deploy", "pyproject.toml", "README.md")
_LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", ".*")
_PASSED, _FAILED = 0, 1  # what pytest ends with
_LONGEST: Final = 200  # characters of why a test failed


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run of pytest: ``failed`` names tests whose own assertions did not hold,
    with the first line of why; ``broken`` says why the run means nothing, if it does.
    """

    seconds: float
    passed: int
    failed: tuple[tuple[str, str], ...]
    broken: str | None = None


class Workshop:
    """A copy of the project, for one mutant at a time."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=_LEFT_OUT)
            else:
                shutil.copy2(source, folder / name)
        # Checked by their contents: two versions of a file within one second are told apart.
        compileall.compile_dir(
            folder, quiet=2, workers=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH
        )
        self._check_imports()

    @contextmanager
    def seeded(self, mutant: Mutant) -> Iterator[None]:
        """The copy has the bug until the block ends. Raises StaleMutant when it does not fit."""
        path = self.root / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.changed(source), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(source, encoding="utf-8")

    def run(self, tests: Iterable[str], *, within: float = WITHIN, stop: bool = True) -> Run:
        """The tests have run in the copy; with ``stop`` up to the first one that fails."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="orch8-mutant-") as scratch:
            report = Path(scratch) / "report.xml"
            command = [
                sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider",
                f"--timeout={_EACH}", f"--junitxml={report}", "-o", "junit_family=xunit1",
                f"--basetemp={scratch}/pytest", *(["-x"] if stop else []), *tests,
            ]  # fmt: skip
            try:
                done = self._python(command, within)
            except subprocess.TimeoutExpired:
                return Run(within, 0, (), f"not done within {within:.0f} s")
            seconds = time.monotonic() - began
            if done.returncode not in (_PASSED, _FAILED) or not report.exists():
                return Run(seconds, 0, (), _last_line(done.stdout + done.stderr))
            return _read(report, seconds)

    def _check_imports(self) -> None:
        """Raises RuntimeError if Python would import the project from somewhere else."""
        done = self._python([sys.executable, "-c", "import orch8; print(orch8.__file__)"], 30)
        if not done.stdout.startswith(str(self.root)):
            raise RuntimeError(f"orch8 is imported from {done.stdout.strip()}, not from the copy")

    def _python(self, command: list[str], within: float) -> subprocess.CompletedProcess[str]:
        environ = {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "ci",
        }
        return subprocess.run(
            command, cwd=self.root, env=environ, timeout=within, check=False, text=True,
            capture_output=True,
        )  # fmt: skip


def _read(report: Path, seconds: float) -> Run:
    passed, failed, errors = 0, [], []
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('file', '?')}::{case.get('name', '?')}"
        failure, error = case.find("failure"), case.find("error")
        if failure is not None:
            failed.append((name, _first_line(failure.get("message", ""))))
        elif error is not None:
            errors.append(f"{name}: {_first_line(error.get('message', ''))}")
        elif case.find("skipped") is None:
            passed += 1
    if not failed and errors:  # a bug that keeps a test from even starting was not noticed by it
        return Run(seconds, passed, (), errors[0])
    if not failed and not passed:
        return Run(seconds, 0, (), "no test ran")
    return Run(seconds, passed, tuple(failed))


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:_LONGEST]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:_LONGEST]
