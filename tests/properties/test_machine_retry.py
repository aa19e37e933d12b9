"""Retries: a failed instance goes on where it failed, and what completed is never run again."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from orch8.blocks.for_each import ForEach
from orch8.blocks.router import Router
from orch8.blocks.saga import Saga
from orch8.engine.block import Index, Leaf
from orch8.engine.events import Retried
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Schedule, Settled
from orch8.engine.outcome import Outcome, Status
from tests.support.definitions import (
    EVERYTHING,
    FORGIVING,
    LEAVES,
    Said,
    above,
    definitions,
    finally_ids,
    undo_ids,
)
from tests.support.oracle import Oracle
from tests.support.shell import Shell, Story, always, stories, unlucky

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WITHOUT_END = EVERYTHING - {"end"}
SAGAS = LEAVES | {"saga", "parallel", "fast"}
UNFORGIVING = WITHOUT_END - FORGIVING - {"resolve"}
# Each retry brings a saga back by one step at least: its compensations, then its actions.
_ENOUGH_RETRIES = 200

seeds = st.integers(0, 2**32)
rates = st.sampled_from([0.2, 0.4, 0.7])


@given(stories(WITHOUT_END, retries=3))
def test_a_completed_leaf_runs_again_only_after_it_was_undone(story: Story) -> None:
    """Not in any round: only if its action was compensated meanwhile, or as part of a finally or a
    compensation, which belong to the round they run in.
    """
    shell = story.told()
    _assert_nothing_runs_twice(shell)


@given(stories(WITHOUT_END, retries=3))
def test_a_retry_enters_what_failed(story: Story) -> None:
    """What a retry schedules at once are leaves that failed or were cancelled, or that never ran;
    a failed instance always has something to go on with.
    """
    shell = story.told()
    ended: dict[tuple[object, ...], Outcome] = {}
    again = undo_ids(shell.index) | finally_ids(shell.index)
    for turn in shell.turns:
        settled = [e for e in turn.decision.effects if isinstance(e, Settled)]
        before = turn.before.outcome
        if isinstance(turn.event, Retried) and before and before.status is Status.FAILED:
            assert turn.decision.effects
            for key in _schedules(turn.decision.effects):
                up = {k.block_id for k in above(shell.index, key)}
                undone = up & again or _sagas_above(shell.index, key)
                assert undone or not ended.get(key[:2], before).ok
        ended |= {e.key[:2]: e.outcome for e in settled}


@given(definitions(WITHOUT_END), seeds, rates, st.integers(1, 3))
def test_retries_lead_to_completion_once_nothing_fails_any_more(
    index: Index, seed: int, rate: float, until: int
) -> None:
    """An instance is never stuck: when the trouble is over, retries complete it."""
    shell = _retried_to_the_end(index, Said(seed, until), seed, rate, until)
    _assert_nothing_runs_twice(shell)


@given(definitions(UNFORGIVING), seeds, rates, st.integers(1, 3))
def test_a_retried_instance_has_done_what_one_without_trouble_does(
    index: Index, seed: int, rate: float, until: int
) -> None:
    """Retries neither skip nor add: but for compensations, the leaves that completed are those of
    the naive reading without failures.
    """
    shell = _retried_to_the_end(index, Said(seed, until), seed, rate, until)
    oracle = Oracle(Said(seed), always())
    assert oracle.read(index.root, NodeKey(index.root.id))
    undo = undo_ids(index)
    done = {
        effect.key[:2]
        for effect in shell.effects
        if isinstance(effect, Settled)
        and effect.outcome.status is Status.COMPLETED
        and isinstance(index[effect.key.block_id], Leaf)
        and not undo & {key.block_id for key in above(index, effect.key)}
    }
    assert done == {key[:2] for key in oracle.ran}


@given(definitions(EVERYTHING - {"end", "saga", "try_catch"}), seeds, rates)
def test_a_choice_stands(index: Index, seed: int, rate: float) -> None:
    """A router keeps its route and a for_each its items, though the data is another by then."""
    shell = _retried_to_the_end(index, Said(seed, fickle=True), seed, rate, 2)
    taken: dict[tuple[object, ...], set[str]] = {}
    items: dict[tuple[object, ...], int] = {}
    for turn in shell.turns:
        for key in turn.decision.snapshot.frames:
            for up in list(above(index, key))[:1]:
                if isinstance(index[up.block_id], Router):
                    taken.setdefault(up[:2], set()).add(key.block_id)
        for key, frame in turn.decision.snapshot.frames.items():
            if isinstance(index[key.block_id], ForEach):
                assert frame.data["of"] == items.setdefault(key[:2], frame.data["of"])
    assert all(len(routes) == 1 for routes in taken.values())


@given(stories(WITHOUT_END, retries=3) | stories(SAGAS, retries=3))
def test_a_saga_goes_forward_only_when_all_is_undone(story: Story) -> None:
    """A failed compensation is repeated, and completes, before any action starts again."""
    shell = story.told()
    owed: dict[tuple[object, ...], set[str]] = {}
    sagas = {b.id: b for b in shell.index.values() if isinstance(b, Saga)}
    for effect in shell.effects:
        chain_and_saga = list(above(shell.index, effect.key))
        if isinstance(effect, Schedule):
            for chain, saga in pairwise(chain_and_saga):
                if saga.block_id in sagas and _is_action(sagas[saga.block_id], chain):
                    assert not owed.get(saga[:2]), f"{effect.key} while {owed[saga[:2]]} is owed"
        elif isinstance(effect, Settled) and chain_and_saga:
            saga = chain_and_saga[0]
            if saga.block_id in sagas and not _is_action(sagas[saga.block_id], effect.key):
                change = set.discard if effect.outcome.ok else set.add
                change(owed.setdefault(saga[:2], set()), effect.key.block_id)


def _retried_to_the_end(index: Index, values: Said, seed: int, rate: float, until: int) -> Shell:
    rng = random.Random(seed)
    shell = Shell(index, values, unlucky(seed, rate, until), rng).start()
    outcome = shell.run()
    for _ in range(_ENOUGH_RETRIES):
        if outcome.status is not Status.FAILED:
            break
        outcome = shell.retry()
    assert outcome.status is Status.COMPLETED
    return shell


def _assert_nothing_runs_twice(shell: Shell) -> None:
    index, undo, fin = shell.index, undo_ids(shell.index), finally_ids(shell.index)
    undoes = {
        action.id: undo_chain.id
        for block in index.values()
        if isinstance(block, Saga)
        for action, undo_chain in block.steps
        if undo_chain is not None
    }
    completed: dict[tuple[object, ...], int] = {}
    undone: dict[tuple[str, tuple[int, ...]], int] = {}
    for n, effect in enumerate(shell.effects):
        key = effect.key
        if isinstance(effect, Settled) and effect.outcome.ok:
            undone[key[:2]] = n
            if isinstance(index[key.block_id], Leaf):
                completed[key[:2]] = n
        elif isinstance(effect, Schedule) and key[:2] in completed:
            up = list(above(index, key))
            assert any(
                k.block_id in undo | fin
                or undone.get((undoes.get(k.block_id, ""), k.path), -1) > completed[key[:2]]
                for k in up
            ), f"{key} runs again"


def _schedules(effects: object) -> Iterator[NodeKey]:
    assert isinstance(effects, tuple)
    return (effect.key for effect in effects if isinstance(effect, Schedule))


def _sagas_above(index: Mapping[str, object], key: NodeKey) -> list[NodeKey]:
    assert isinstance(index, Index)
    return [k for k in above(index, key) if isinstance(index[k.block_id], Saga)]


def _is_action(saga: Saga, key: NodeKey) -> bool:
    return any(key.block_id == action.id for action, _ in saga.steps)
