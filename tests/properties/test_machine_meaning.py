"""Meaning: in whatever order the answers come, a definition does what a naive reading says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.keys import NodeKey
from orch8.engine.moves import Schedule
from tests.support.definitions import EVERYTHING, definitions
from tests.support.oracle import Oracle
from tests.support.shell import Shell, Story, stories, unlucky

if TYPE_CHECKING:
    from orch8.engine.block import Block, Index

# Which branch of a race decides is a matter of time, unless failures do not count.
TIMELESS = EVERYTHING - {"end", "resolve"}
# Whoever stops early on a failure has run more or less by then.
THOROUGH = TIMELESS - {"race", "fast", "concurrent"}
ONE_BY_ONE = THOROUGH - {"parallel"}


@given(stories(TIMELESS, cancelled=False))
def test_an_instance_ends_well_exactly_if_the_reading_does(story: Story) -> None:
    """Success and failure do not depend on the order of answers."""
    shell = story.told()
    assert shell.snapshot.outcome is not None
    assert shell.snapshot.outcome.ok == _oracle(story, shell).read(*_root(shell))


@given(stories(THOROUGH, cancelled=False))
def test_the_leaves_that_run_are_those_of_the_reading(story: Story) -> None:
    """Nothing is left out and nothing is added, also when leaves fail."""
    shell = story.told()
    oracle = _oracle(story, shell)
    oracle.read(*_root(shell))
    assert sorted(_scheduled(shell)) == sorted(oracle.ran)


@given(stories(ONE_BY_ONE, cancelled=False))
def test_without_parallel_parts_leaves_run_in_the_order_of_the_reading(story: Story) -> None:
    """One after another means in order."""
    shell = story.told()
    oracle = _oracle(story, shell)
    oracle.read(*_root(shell))
    assert _scheduled(shell) == oracle.ran


@given(definitions(THOROUGH), st.integers(0, 2**32), st.sampled_from([0.1, 0.4]))
def test_the_order_of_answers_does_not_matter(index: Index, seed: int, rate: float) -> None:
    """The same answers in another order run the same leaves to the same end."""
    one, other = (
        Shell(index, answers=unlucky(seed, rate), rng=random.Random(order)).start()
        for order in (seed, seed + 1)
    )
    assert one.run() == other.run()
    assert sorted(one.scheduled) == sorted(other.scheduled)


def _oracle(story: Story, shell: Shell) -> Oracle:
    return Oracle(shell.values, unlucky(story.seed, story.rate))


def _root(shell: Shell) -> tuple[Block, NodeKey]:
    return shell.index.root, NodeKey(shell.index.root.id)


def _scheduled(shell: Shell) -> list[NodeKey]:
    return [effect.key for effect in shell.effects if isinstance(effect, Schedule)]
