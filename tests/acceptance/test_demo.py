"""The demo keeps its promise before anybody's eyes, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orch8.dev.demo.book import count, moments
from orch8.dev.demo.stage import Stage, Stuck

WITHIN = 60.0  # seconds, the promise of `make demo` after the downloads
STOPS_WITHIN = 15.0
CHARGE = "charge_payment_method"
START = "2026-04-01T00:00:00Z"


def _demo(folder: Path) -> subprocess.Popen[str]:
    """The demo, whose temporary files are in the folder."""
    # An orch8 of the environment must not be touched: the address would fail.
    env = {**os.environ, "TMPDIR": str(folder), "ORCH8_DATABASE_URL": "postgresql://db.invalid/x"}
    argv = [sys.executable, "-u", "-m", "orch8.dev.demo"]
    return subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _pids(said: str) -> set[int]:
    """The processes that the demo told of."""
    first = re.findall(r"[\w-]+ is (\d+)", said)
    return {int(pid) for pid in first + re.findall(r"runs again \(process (\d+)\)", said)}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _left(folder: Path) -> list[str]:
    """What the demo left: files of its own, and its Postgres' data where root keeps them."""
    kept = Path("/var/lib/orch8").glob("*/belongs-to")
    mine = [str(p) for p in kept if p.read_text(encoding="utf-8").startswith(str(folder))]
    return [str(path) for path in folder.iterdir()] + mine


@pytest.mark.acceptance
@pytest.mark.xdist_group("stack")
def test_demo_shows_no_duplicate_and_no_loss_within_a_minute(tmp_path: Path) -> None:
    """Five charges asked, two made, none twice, none lost; then no process and no file is left."""
    began = time.monotonic()
    with _demo(tmp_path) as demo:
        said, _ = demo.communicate(timeout=2 * WITHIN)
    took = time.monotonic() - began
    assert demo.returncode == 0, said
    assert re.search(r"all +5 +2 +2 +0 +0", said), said
    assert "claim lost" in said
    assert "no second charge" in said
    assert re.search(r"day 40 +engine +completed +downgrade_account", said)
    assert said.rstrip().splitlines()[-2].startswith("PASSED")
    assert took < WITHIN
    assert len(_pids(said)) == 10  # eight at the start, two workers again
    assert not [pid for pid in _pids(said) if _alive(pid)]
    assert not _left(tmp_path)


@pytest.mark.acceptance
@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("when", ["starting", "2  Publish"])
def test_interrupted_demo_leaves_nothing_behind(tmp_path: Path, when: str) -> None:
    """Ctrl-C ends it soon with status 130, with no process and no file left."""
    heard = []
    with _demo(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            heard.append(line)
            if when in line:
                break
        demo.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, "".join(heard) + rest
    assert time.monotonic() - began < STOPS_WITHIN
    assert "Traceback" not in rest
    assert not [pid for pid in _pids("".join(heard)) if _alive(pid)]
    assert not _left(tmp_path)


def test_stage_says_what_it_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come in time is named, and the folder with the logs can be kept."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stage = Stage(lambda _line: None)
    with pytest.raises(Stuck, match=r"waited 0.05 s in vain for the charge"):
        stage.until("the charge", lambda: None, within=0.05)
    stage.strike(keep=True)
    assert stage.folder.is_dir()
    stage.strike(keep=False)
    assert not stage.folder.exists()


def _entry(step: str, charged: int, asked: int = 1) -> dict[str, Any]:
    """An entry of the provider's book; every charge under a key of its own."""
    subject = f"i/{step}"
    return {"handler": step, "subject": subject, "asked": asked, "charged": charged, "declined": 0}


def _output(step: str, outcome: str = "succeeded") -> dict[str, Any]:
    return {"node_key": step, "outcome": outcome}


@pytest.mark.parametrize(
    ("state", "outputs", "book", "made", "duplicates", "lost"),
    [
        ("completed", [_output(CHARGE)], [(CHARGE, 1)], 1, 0, 0),
        ("completed", [_output(CHARGE)], [(CHARGE, 2)], 2, 1, 0),
        # Two keys for one step: the provider cannot see it, the subject tells.
        ("completed", [_output(CHARGE)], [(CHARGE, 1), (CHARGE, 1)], 2, 1, 0),
        ("completed", [], [(CHARGE, 1)], 1, 0, 1),
        ("completed", [_output(CHARGE, "declined")], [(CHARGE, 1)], 1, 0, 1),
        ("waiting", [_output(CHARGE)], [(CHARGE, 1)], 1, 0, 1),
        ("completed", [], [("send_payment_reminder", 1)], 0, 0, 0),
    ],
)
def test_count_sees_every_duplicate_and_every_loss(
    state: str,
    outputs: list[Mapping[str, Any]],
    book: list[tuple[str, int]],
    made: int,
    duplicates: int,
    lost: int,
) -> None:
    """A second charge of a step is a duplicate under any key; a charge without record is lost."""
    found = count("p", {"state": state}, outputs, [_entry(*each) for each in book])
    assert (found.made, found.duplicates, found.lost) == (made, duplicates, lost)


def test_timeline_counts_the_days_of_the_moved_clock() -> None:
    """A step's time is the engine's, although the audit log was written on the same real day."""
    entry = {
        "at": "2026-04-01T00:00:01Z", "actor": "engine", "action": "step.completed", "reason": None,
        "outcome": "succeeded", "node_key": "wait", "details": None,
    }  # fmt: skip
    created = {**entry, "at": START, "action": "instance.created", "node_key": None}
    told = {
        "instance": {"created_at": START, "finished_at": None},
        "audit": [created, entry],
    }
    node = {"node_key": "wait", "handler": "wait", "started_at": START}
    lines = moments(told, [node | {"completed_at": "2026-04-04T00:00:00Z"}])
    assert [line.after for line in lines] == [timedelta(), timedelta(days=3)]
    assert lines[1].why == "3 days are over"
