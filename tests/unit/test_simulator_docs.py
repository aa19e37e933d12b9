"""The examples of deploy/docs/testing.md, run as a user would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import orch8
from orch8 import testing

ROOT = Path(orch8.__file__).parents[1]
PAGE = ROOT / "deploy" / "docs" / "testing.md"


def test_examples_of_the_page_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test function of the page passes, in the order of the page."""
    (tmp_path / "sequences").mkdir()
    shutil.copy(ROOT / "orch8" / "examples" / "payment_dunning.json", tmp_path / "sequences")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 9
    for each in tests:
        each()


def test_every_public_name_can_be_imported() -> None:
    """What the package offers is where it says."""
    for name in testing._HOME:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Simulato'"):
        testing.Simulato  # noqa: B018
