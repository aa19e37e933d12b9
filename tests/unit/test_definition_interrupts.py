"""Interrupts and sla in a definition: what they become, and how they are refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.blocks.interrupt import MOST, SLA, Interrupt, Root
from orch8.blocks.step import Step
from orch8.definition import load
from orch8.engine.block import Chain
from orch8.engine.duration import Duration
from tests.support.documents import contract, loaded, refusal, seed

CHECK = {"type": "step", "handler": "check"}
WAIT = {"type": "wait", "id": "next_try", "delay": {"days": 3}}
END = {"type": "end", "outcome": "paid"}
PAID = {"signal": "paid", "blocks": [{"type": "step", "handler": "restore"}, END]}
FOUR_HUNDRED = 400


def root_of(*interrupts: Any, **members: Any) -> Root:
    """The root of a check and a wait with these interrupts."""
    root = loaded(CHECK, WAIT, interrupts=list(interrupts), **members).index.root
    assert isinstance(root, Root)
    return root


def refused(*interrupts: Any) -> list[tuple[str, str]]:
    """Where and why these interrupts are refused."""
    _, problems = refusal(seed(CHECK, WAIT, interrupts=list(interrupts)))
    return [(each.pointer, each.message) for each in problems]


def warned(*blocks: Any, interrupts: Any) -> list[tuple[str, str]]:
    """The remarks on a definition."""
    return [(w.pointer, w.message) for w in loaded(*blocks, interrupts=interrupts).warnings]


@pytest.mark.parametrize("members", [{}, {"interrupts": []}, {"interrupts": None, "sla": None}])
def test_a_definition_without_interrupts_and_sla_is_its_main_chain(members: dict[str, Any]) -> None:
    """Nothing is added to what has nothing beside its blocks."""
    root = loaded(CHECK, **members).index.root
    assert isinstance(root, Chain)
    assert root.id == "@main"


def test_the_blocks_of_an_interrupt_share_the_ids_of_all_others() -> None:
    """They are named behind the main ones and stand in an iteration of their own."""
    sequence = loaded(CHECK, WAIT, interrupts=[{"signal": "again", "blocks": [CHECK]}, PAID])
    assert sequence.index.loops["check_2"] == ("@interrupt@0",)
    assert sequence.index.loops["restore"] == ("@interrupt@1",)
    assert sequence.index.loops["check"] == ()
    assert sequence.handlers == {"check", "wait", "restore"}
    assert refused({"signal": "s", "blocks": [{**CHECK, "id": "next_try"}]}) == [
        ("/interrupts/0/blocks/0/id", 'block "next_try": the id is taken by /blocks/1/id')
    ]


def test_an_interrupt_knows_what_it_sets_wakes_and_runs() -> None:
    """Only one with an end among its own blocks closes the run."""
    paid, updated, notice = root_of(
        PAID,
        {
            "signal": "updated",
            "match": {"invoice": "{{context.data.invoice}}"},
            "set": {"context.data.card.id": "{{signal.payload.id}}", "context.data.old": None},
            "wake": ["next_try"],
        },
        {"signal": "notice", "blocks": [{"type": "parallel", "branches": [[END]]}]},
    ).interrupts
    assert (paid.closing, updated.closing, notice.closing) == (True, False, False)
    assert [path for path, _ in updated.set] == [("card", "id"), ("old",)]
    assert updated.set[1][1] is None
    assert updated.wake == {"next_try"}
    assert updated.match is not None
    assert updated.body is None


def test_the_canonical_form_names_the_blocks_of_interrupts() -> None:
    """And is read back as the same definition."""
    sequence = loaded(CHECK, WAIT, interrupts=[PAID, {"signal": "s", "wake": ["next_try"]}])
    first, second = sequence.canonical["interrupts"]
    assert [block["id"] for block in first["blocks"]] == ["restore", "end"]
    assert first.keys() == PAID.keys()
    assert second == {"signal": "s", "wake": ["next_try"]}
    assert load(dict(sequence.canonical)).sha256 == sequence.sha256


def test_an_interrupt_reads_its_signal_and_nobody_else_does() -> None:
    """Outside of interrupts the root has no value, which is remarked on."""
    params = {"params": {"p": "{{signal.payload.x}}"}}
    assert warned(CHECK, interrupts=[{"signal": "s", "blocks": [{**CHECK, **params}]}]) == []
    assert warned({**CHECK, **params}, interrupts=[{**PAID}]) == [
        ("/blocks/0/params/p", 'block "check": nothing provides signal here')
    ]


def test_an_sla_is_a_durable_wait_beside_the_blocks() -> None:
    """With an alert, unless it says otherwise."""
    root = loaded(CHECK, sla={"max_duration": {"days": 45}}).index.root
    assert isinstance(root, Root)
    assert isinstance(root.sla, Step)
    assert (root.sla.id, root.sla.handler, root.on_breach) == (SLA, "wait", "alert")
    assert root.sla.delay is not None
    assert root.sla.delay.duration == Duration(days=45)
    root = loaded(CHECK, sla={"max_duration": "90s", "on_breach": "cancel"}).index.root
    assert isinstance(root, Root)
    assert isinstance(root.sla, Step)
    assert root.sla.delay is not None
    assert root.sla.delay.duration == Duration(absolute=timedelta(seconds=90))
    assert root.on_breach == "cancel"


@pytest.mark.parametrize(
    ("interrupt", "pointer", "message"),
    [
        ({"blocks": [CHECK]}, "/signal", "signal is required"),
        ({"signal": "s"}, "", 'interrupt "s": nothing happens'),
        ({"signal": "s", "blocks": []}, "/blocks", 'interrupt "s": blocks must not be empty'),
        ({"signal": "s", "goto": "x"}, "/goto", 'interrupt "s": there is no goto'),
        ({"signal": "s", "wake": ["nextry"]}, "/wake/0", "\"s\": 'nextry' names no block"),
        ({"signal": "s", "wake": ["check"]}, "/wake/0", "block 'check' is no wait"),
        ({"signal": "s", "wake": [7]}, "/wake/0", "must be a string"),
        ({"signal": "s", "set": {"data.a": 1}}, "/set/data.a", "no place below context.data"),
        ({"signal": "s", "set": {"context.data": 1}}, "/set/context.data", "no place below"),
        ({"signal": "s", "set": {"context.config.a": 1}}, "/set/context.config.a", "no place"),
        (
            {"signal": "s", "set": {f"context.data.a{n}": n for n in range(MOST + 1)}},
            "/set",
            "more than 100 members",
        ),
        (
            {"signal": "s", "set": {"context.data.a": "{{nobody.x}}"}},
            "/set/context.data.a",
            "unknown root nobody",
        ),
        ({"signal": "s", "match": {"a": "{{"}, "wake": ["next_try"]}, "/match/a", "{{"),
        ({"signal": "s", "wake": ["next_try"], "then": "stop"}, "/then", "then must not be"),
        ({"signal": "s", "wakes": ["next_try"]}, "/wakes", "unknown member 'wakes'"),
        ({"signal": "s", "when": "true", "wake": ["next_try"]}, "/when", "unknown member 'when'"),
        ("paid", "", "entry 0 must be an object"),
    ],
)
def test_a_wrong_interrupt_is_refused(interrupt: Any, pointer: str, message: str) -> None:
    """Each mistake is named with its place."""
    found = refused(interrupt)
    assert f"/interrupts/0{pointer}" in [at for at, _ in found]
    assert [said for at, said in found if at == f"/interrupts/0{pointer}" and message in said]


@pytest.mark.parametrize(
    ("sla", "pointer"),
    [
        ({}, "/sla/max_duration"),
        ({"max_duration": 0}, "/sla/max_duration"),
        ({"max_duration": "1d", "on_breach": "park"}, "/sla/on_breach"),
        ({"max_duration": "1d", "on": "x"}, "/sla/on"),
        ([], "/sla"),
    ],
)
def test_a_wrong_sla_is_refused(sla: Any, pointer: str) -> None:
    """It needs a duration and one of three words."""
    _, problems = refusal(seed(CHECK, sla=sla))
    assert [each.pointer for each in problems] == [pointer]


def test_too_many_interrupts_are_refused() -> None:
    """The list is bounded."""
    many = [{"signal": f"s{n}", "wake": ["next_try"]} for n in range(MOST + 1)]
    assert ("/interrupts", f"interrupts must not have more than {MOST} entries") in refused(*many)


def test_the_suggestion_for_a_wait_is_a_block() -> None:
    """A typo in wake is answered with what it resembles."""
    status, (problem,) = refusal(
        seed(CHECK, WAIT, interrupts=[{"signal": "s", "wake": ["nexttry"]}])
    )
    assert (status, problem.hint) == (FOUR_HUNDRED, "did you mean next_try?")
    _, (problem,) = refusal(seed(CHECK, interrupts=[{"signal": "s", "wake": ["zzz"]}]))
    assert problem.hint == "write the id of a wait"


def test_what_never_gets_a_signal_is_remarked_on() -> None:
    """The first interrupt that matches takes it, before any wait."""
    waits = [
        {"type": "wait_signal", "signal": "paid"},
        {"type": "step", "handler": "wait_signal", "params": {"signal": "paid"}},
        {"type": "wait_signal", "signal": "{{data.name}}"},
    ]
    pairs = warned(
        *waits,
        interrupts=[
            {**PAID, "match": {"a": 1}},
            {"signal": "paid", "set": {"context.data.a": 1}},
            {"signal": "paid", "blocks": [CHECK]},
        ],
    )
    assert [at for at, _ in pairs] == ["/blocks/0", "/blocks/1", "/interrupts/2/signal"]
    assert warned(CHECK, WAIT, interrupts=[{"signal": "s", "wake": ["next_try"], "then": "resume"}])


def test_the_long_form_has_interrupts_too() -> None:
    """Where unknown members are remarks and blocks need ids."""
    step = {**CHECK, "id": "a"}
    sequence = load(
        contract(step, interrupts=[{"signal": "s", "blocks": [{**CHECK, "id": "b"}], "x": 1}])
    )
    assert [w.pointer for w in sequence.warnings] == ["/interrupts/0/x"]
    assert sequence.index.loops["b"] == ("@interrupt@0",)
    assert isinstance(sequence.index["@interrupt@0"], Interrupt)
    _, problems = refusal(contract(step, interrupts=[{"signal": "s", "blocks": [CHECK]}]))
    assert [each.pointer for each in problems] == ["/interrupts/0/blocks/0/id"]
