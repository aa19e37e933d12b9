"""What expressions can read at a node, and what they ask the shell to load first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orch8.definition import load
from orch8.engine.expressions import Dialect, compile_template
from orch8.engine.keys import NodeKey
from orch8.engine.scope import CONTEXT, STATE, Known, NeedsValues, OutputRef, Ref, Scope
from orch8.errors import ExpressionError

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
PAY = {"type": "step", "id": "pay", "handler": "h"}
SEQUENCE = load(
    {
        "id": "s",
        "blocks": [
            {"type": "step", "id": "charge", "handler": "h"},
            {"type": "for_each", "id": "each", "collection": "{{data.items}}", "body": [PAY]},
            {"type": "loop", "id": "again", "max_iterations": 3, "body": [{**PAY, "id": "poll"}]},
            {"type": "step", "id": "last", "handler": "h"},
        ],
    }
)
CONTEXT_VALUE = {"data": {"amount": 5, "input": {"a": 1}, "items": [7, 8]}, "config": {"c": 2}}
ITEMS = OutputRef("each@items", (0,), exact=True)
LAST = NodeKey("last")


def scope(known: Known) -> Scope:
    """The scope of an instance of the sequence."""
    index = SEQUENCE.index
    return Scope(index, "i-1", known, NOW, lambda: 0.25, lambda _: {"attempt": 1})


def read(source: str, at: NodeKey = LAST, known: Known | None = None, **values: Any) -> Any:
    """What ``{{source}}`` comes to at a node."""
    known = known or Known({CONTEXT: CONTEXT_VALUE, STATE: {"k": 1}, **values.pop("outputs", {})})
    roots = {"context", "data", "config", "input", "runtime", "instance_id", "instance", "state"}
    template = compile_template(f"{{{{{source}}}}}", Dialect.SEED, roots | {"iteration", "item"})
    return scope(known).render(template, at, values.get("error"))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("context.data.amount", 5),
        ("data.amount", 5),
        ("config.c", 2),
        ("input.a", 1),
        ("runtime.attempt", 1),
        ("instance_id", "i-1"),
        ("instance.id", "i-1"),
        ("state.k", 1),
        ("now", "2026-01-31T09:00:00.000000Z"),
        ("random()", 25.0),
        ("data.missing.deeper", None),
    ],
)
def test_scope_knows_its_roots(source: str, value: Any) -> None:
    """Every root of the language has its value at every node."""
    assert read(source) == value


def test_scope_lays_the_failure_over_the_context() -> None:
    """A catch reads what it handles; the stored context does not change."""
    assert read("context.data._error.message", error={"message": "no"}) == "no"
    assert "_error" not in CONTEXT_VALUE["data"]


def test_scope_knows_the_signal_that_is_being_looked_at() -> None:
    """Outside of blocks, where an interrupt decides what to do with it."""
    template = compile_template("{{signal.payload}}", Dialect.SEED, {"signal"})
    looking = replace(scope(Known({CONTEXT: CONTEXT_VALUE})), event={"payload": 7})
    assert looking.render(template, LAST, None) == 7
    with pytest.raises(ExpressionError, match="unknown root signal"):
        scope(Known({CONTEXT: CONTEXT_VALUE})).render(template, LAST, None)


def test_what_was_replaced_counts_until_it_is_forgotten() -> None:
    """A transaction that begins anew finds the stored value."""
    known = Known({STATE: {"k": 1}})
    known.replace(STATE, {"k": 2})
    known.replace(CONTEXT, CONTEXT_VALUE)
    known.require([STATE, CONTEXT])
    assert read("state.k", known=known) == 2
    known.forget()
    assert known.get(STATE) == {"k": 1}
    with pytest.raises(NeedsValues):
        known.get(CONTEXT)


def test_scope_gives_each_iteration_its_item_and_number() -> None:
    """Items come from the memo of the loop, numbers count from 1."""
    outputs = {ITEMS: [7, 8]}
    assert read("item", NodeKey("pay", (1,)), outputs=outputs) == 8
    assert read("iteration", NodeKey("pay", (1,)), outputs=outputs) == 2
    assert read("context.data.item", NodeKey("pay", (0,)), outputs=outputs) == 7
    assert read("iteration", NodeKey("poll", (2,))) == 3


@pytest.mark.parametrize(
    ("block", "at", "ref"),
    [
        ("charge", LAST, OutputRef("charge", (), exact=True)),
        ("pay", NodeKey("pay", (4,)), OutputRef("pay", (4,), exact=True)),
        ("pay", LAST, OutputRef("pay", (), exact=False)),
        ("pay", NodeKey("poll", (1,)), OutputRef("pay", (), exact=False)),
        ("nobody", LAST, None),
    ],
)
def test_reference_means_the_same_iteration_or_the_last(
    block: str, at: NodeKey, ref: OutputRef | None
) -> None:
    """Of the loops that both stand in the same iteration, of the others the last one."""
    assert scope(Known()).ref(block, at) == ref


def test_scope_asks_for_all_that_an_expression_wants_at_once() -> None:
    """So that a batch of instances is loaded in one go."""
    with pytest.raises(NeedsValues) as asked:
        read("outputs.charge.status == data.amount", known=Known())
    assert asked.value.refs == {CONTEXT, OutputRef("charge", (), exact=True)}


def test_known_prefers_what_was_just_put_out() -> None:
    """An output of this very transaction counts before it is stored."""
    ref = OutputRef("pay", (), exact=False)
    values: dict[Ref, Any] = {ref: "stored"}
    known = Known(values, {ref: (3,)})
    known.put_out(NodeKey("pay", (2,)), "earlier")
    assert known.get(ref) == "stored"
    known.put_out(NodeKey("pay", (4,)), "later")
    assert known.get(ref) == "later"
    assert known.get(OutputRef("pay", (2,), exact=True)) == "earlier"


def test_iteration_that_just_began_has_put_out_only_what_is_fresh() -> None:
    """Nothing of it can be stored, so a step that was skipped is absent without a look."""
    at, known = NodeKey("pay", (7,)), Known()
    here = replace(scope(known), before=(NodeKey("root"), NodeKey("each"), NodeKey("body", (6,))))
    assert here.outputs_at(["pay"], at) == {"pay": None}
    known.put_out(at, "fresh")
    assert here.outputs_at(["pay"], at) == {"pay": "fresh"}


@pytest.mark.parametrize("at", [NodeKey("pay", (6,)), NodeKey("poll", (7,)), LAST])
def test_what_was_live_before_may_have_put_out_something(at: NodeKey) -> None:
    """An iteration that goes on, the last one of another loop, and what stands outside."""
    here = replace(scope(Known()), before=(NodeKey("each"), NodeKey("body", (6,))))
    with pytest.raises(NeedsValues):
        here.outputs_at(["pay"], at)


def test_after_a_retry_nothing_is_known_to_be_absent() -> None:
    """A round before may have left outputs in any iteration."""
    with pytest.raises(NeedsValues):
        scope(Known()).outputs_at(["pay"], NodeKey("pay", (7,)))


def test_memo_is_read_in_the_turn_that_made_it() -> None:
    """The first item's blocks may have conditions on it, when its page is not stored yet."""
    known = Known({CONTEXT: CONTEXT_VALUE})
    scope(known).memoized(NodeKey("each@items", (0,)), ["first"])
    assert read("item", NodeKey("pay", (0,)), known=known) == "first"


def test_loop_that_asks_whether_to_go_on_reads_its_last_iteration() -> None:
    """``iteration`` is that which would begin."""
    last = OutputRef("poll", (), exact=False)
    known = Known({CONTEXT: CONTEXT_VALUE, last: {"n": 1}})
    at = NodeKey("again", (1,))
    assert (read("outputs.poll.n", at, known), read("iteration", at, known)) == (1, 2)
