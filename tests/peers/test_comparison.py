"""The comparison's own arithmetic and honesty: medians, latencies, and nobody left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from rich.console import Console

from tests.peers import chart, report
from tests.peers.companion import Companion, Trouble
from tests.peers.contender import Records
from tests.peers.peers import PEERS
from tests.peers.programs.step import STEPS
from tests.peers.report import Entry
from tests.peers.session import Measured, periods_of

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = {"cores": 2, "cpu": "a processor", "postgres": "18", "python": "3", "at": "2026-11-22"}
ECHO = """
from tests.peers.programs.talk import asked, say
print("a library says hello")
say(ready=True)
for kind, ids, _ in asked():
    if kind == "fail":
        raise SystemExit("no such kind")
    say(submitted=len(ids))
"""


@pytest.fixture
def companion(tmp_path: Path) -> Iterator[Companion]:
    """A process that answers as a peer's program does."""
    started = Companion((sys.executable, "-c", ECHO), os.environ, tmp_path / "log")
    yield started
    started.stop()


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """Two engines: one measured three times, one that could not be installed."""
    measured = Entry("orch8", "orch8", "1", "as it comes")
    for rate in (100.0, 400.0, 300.0):
        measured.add("noop", run_of(rate))
        measured.add("http", run_of(rate / 2))
    missing = Entry("other", "Other", "2", "as it comes", trouble=["cannot be installed: <why>"])
    return report.write(tmp_path / "results.json", CONDITIONS, [measured, missing])


def run_of(rate: float) -> Measured:
    """A round of ten workflows."""
    cpu = {"itself": 0.01, "postgres": 0.02, "handler": 5.0}
    return Measured(10, rate, [0.001, 0.003], cpu, commits=20, repeated=0)


def test_figures_are_medians_and_leave_the_handler_out(results: dict[str, Any]) -> None:
    """The median of the rounds counts, CPU is per step, and the handler is nobody's cost."""
    numbers = results["engines"][0]["numbers"]["noop"]
    assert numbers["steps_per_s"] == 300.0
    assert numbers["cpu_us"] == pytest.approx(300.0)  # 0.03 s on 100 steps
    assert (numbers["commits"], numbers["p50_ms"], numbers["p99_ms"]) == (2.0, 1.0, 3.0)


def test_engine_that_failed_is_shown_with_its_reason(results: dict[str, Any]) -> None:
    """An engine without figures stands in the table, and its reason below it."""
    console = Console(width=report.WIDTH, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    report.show(results, console)
    console.file.close()
    shown = console.export_text()
    assert "Other 2: not measured" in shown
    assert "Other: cannot be installed: <why>" in shown


def test_lines_for_the_docs_have_the_fastest_first(results: dict[str, Any]) -> None:
    """As a table of Markdown wants them; who was not measured comes last."""
    first, last = report.lines(results, "noop")
    assert first == "| orch8 1 | 300 | 1.0 | 3.0 | 300 | 200 | 2.0 |"
    assert last == "| Other 2: not measured |"


def test_picture_is_well_formed_and_shows_every_engine(results: dict[str, Any]) -> None:
    """The SVG parses, and names the engine that was not measured, too."""
    words = [each.text for each in ET.fromstring(chart.draw(results)).iter() if each.text]
    assert [words.count(name) for name in ("orch8 1", "Other 2", "not measured")] == [2, 2, 2]
    assert "300" in words


@pytest.mark.skipif(not (ROOT / report.KEPT).exists(), reason="no run was kept yet")
def test_chart_and_figures_of_the_docs_are_those_of_the_kept_run() -> None:
    """Nobody draws or copies them by hand."""
    kept = ROOT / report.KEPT
    found = orjson.loads(kept.read_bytes())
    assert kept.with_suffix(".svg").read_text(encoding="utf-8") == chart.draw(found)
    told = kept.with_suffix(".md").read_text(encoding="utf-8")
    for line in (line for kind in report.TITLES for line in report.lines(found, kind)):
        assert line in told


def test_latency_is_from_one_step_to_the_next_of_a_workflow() -> None:
    """Beginnings of different workflows are not compared with each other."""
    found = periods_of([(1.0, "a"), (1.5, "b"), (2.0, "a"), (2.25, "b")])
    assert sorted(found) == [0.75, 1.0]


def test_records_count_from_their_beginning_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier phase wrote is not read again."""
    records = Records(tmp_path / "records")
    line = b"%020d %s\n"
    first, second = b"0" * 36, b"1" * 36
    records.path.write_bytes(line % (1_000_000_000, first))
    records.begin()
    with records.path.open("ab") as file:
        file.write(line % (2_500_000_000, second))
    assert records.count() == 1
    assert records.read() == [(2.5, second.decode())]


def test_companion_is_heard_through_the_noise(companion: Companion) -> None:
    """What libraries print does not disturb the talk."""
    assert companion.hear("ready", 20.0) is True
    companion.tell(kind="noop", ids=["a", "b"], context={})
    assert companion.hear("submitted", 20.0) == 2


def test_companion_that_ends_leaves_its_last_words(companion: Companion) -> None:
    """The reason of a failure comes from the process's own log."""
    companion.hear("ready", 20.0)
    companion.tell(kind="fail", ids=[], context={})
    with pytest.raises(Trouble, match="no such kind"):
        companion.hear("submitted", 20.0)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_is_pinned_and_described(peer: Any) -> None:
    """Every peer has a pinned version, a program, and a place in the document."""
    assert peer.version[0].isdigit()
    assert (Path(__file__).parent / "programs" / f"{peer.program or peer.name}.py").is_file()
    told = (ROOT / "deploy" / "docs" / "peers.md").read_text(encoding="utf-8")
    assert f"{peer.title} {peer.version}" in told
    assert peer.setting in told


def test_workloads_are_what_the_titles_say() -> None:
    """Ten steps that do nothing, five that call."""
    assert STEPS == {"noop": 10, "http": 5}
    assert all(title.startswith(str(STEPS[kind])) for kind, title in report.TITLES.items())
