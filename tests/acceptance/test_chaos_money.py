"""Real processes are killed at each line where money could move twice: it moves once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos_money.points import POINTS
from tests.support.stack import ROOT

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(300),
]

WITHIN = 280.0  # seconds; about 60 on a machine with nothing else to do
_LINE = re.compile(
    r"chaos-money(?:-horizon)?: point=(\w+) kills=(\d+) asked=(\d+) charged=(\d+) "
    r"duplicates=(\d+) unresolved=(\d+) people=(\d+)"
)


def test_kills_at_every_crash_point_double_no_charge_and_need_nobody(tmp_path: Path) -> None:
    """Twenty kills each: every charge is made once, every doubt ends, and nobody is asked."""
    lines = campaign(tmp_path, "--quick", "--seed", "1")
    assert list(lines) == list(POINTS)
    for kills, asked, charged, *wrong in lines.values():
        assert kills >= 20
        assert asked == charged > 0
        assert wrong == [0, 0, 0]


def test_keys_that_grow_too_old_meanwhile_charge_nobody_again(tmp_path: Path) -> None:
    """Days pass while calls are in doubt: what cannot be asked about is parked, the rest ends."""
    point = "before_settle"
    lines = campaign(tmp_path, "--quick", "--horizon", "--point", point, "--seed", "1")
    kills, asked, charged, *wrong = lines[point]
    assert kills >= 20
    assert (asked == charged, wrong) == (True, [0, 0, 0])


def campaign(folder: Path, *arguments: str) -> dict[str, list[int]]:
    """The last lines of a campaign that succeeded, by crash point."""
    argv = [sys.executable, "-m", "tests.chaos_money", "--ledger", str(folder), *arguments]
    ran = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {found[1]: list(map(int, found.groups()[1:])) for found in _LINE.finditer(ran.stdout)}
