"""sub_sequence: an instance of another sequence; its end is this block's end."""

from __future__ import annotations

from orch8.blocks.loop import Loop
from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.outcome import COMPLETED
from tests.support.definitions import chain
from tests.support.shell import BOOM, failing, started

CHILD = SubSequence(id="child", sequence_name="payout")


def test_sub_sequence_waits_for_its_child_as_a_leaf() -> None:
    """What follows starts when the child's outcome is here."""
    shell = started(CHILD, "after")
    assert shell.scheduled == ["child"]
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["child", "after"]


def test_sub_sequence_fails_with_its_child() -> None:
    """Its end is the child's end."""
    assert started(CHILD, answers=failing("child")).run() == BOOM


def test_sub_sequence_in_a_loop_has_a_child_for_each_iteration() -> None:
    """Every iteration has a key of its own, so no child is taken for another's."""
    shell = started(Loop(id="loop", body=chain("body", CHILD), max_iterations=2))
    shell.run()
    assert shell.scheduled == ["child[0]", "child[1]"]
