"""Names, forms, expressions, schemas, limits and remarks of definitions."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

import json
import sys
from contextlib import suppress
from time import process_time
from typing import Any

import pytest

from orch8.blocks import BLOCKS, SCHEMAS
from orch8.definition import Limits, load
from orch8.definition.findings import MONEY_MEMBERS, near
from orch8.definition.json_schema import compile_schema
from orch8.engine.expressions import Dialect
from orch8.errors import ExpressionError
from tests.support.documents import CHARGE, CONTRACT, contract, loaded, refusal, seed


def named(handler: str, **more: Any) -> dict[str, Any]:
    return {"type": "step", "handler": handler, **more}


def ids(*blocks: Any) -> list[str]:
    return [block.id for block in loaded(*blocks).index.root.chains()]


def codes(*blocks: Any, **members: Any) -> list[tuple[str, str]]:
    """The remarks, but those about money, which have a file of their own."""
    found = loaded(*blocks, **members).warnings
    return [(each.code, each.pointer) for each in found if not each.code.startswith("money.")]


# -- names ---------------------------------------------------------------------------------------
def test_given_ids_win_over_derived_ones() -> None:
    """A derived name steps aside for an id that is given anywhere in the document."""
    assert ids(named("a"), named("a"), named("x", id="a_2"), named("a")) == [
        "a",
        "a_3",
        "a_2",
        "a_4",
    ]
    assert ids(named("a"), named("x", id="a")) == ["a_2", "a"]


def test_names_follow_the_document_into_branches() -> None:
    """Counting goes through the whole document from top to bottom, not level by level."""
    inner = {"type": "parallel", "branches": [[named("a")], [named("a")]]}
    sequence = loaded(inner, named("a"))
    assert {"a", "a_2", "a_3", "@parallel.0", "@parallel.1"} <= set(sequence.index)
    assert sequence.index.root.blocks[1].id == "a_3"


def test_ids_are_escaped_in_node_keys_only() -> None:
    """Characters that node keys need are escaped in the index and kept in the canonical form."""
    sequence = loaded(named("h", id="a/b~[1]@%"), named("h", when='outputs["a/b~[1]@%"].ok'))
    assert ids(named("h", id="a/b~[1]@%")) == ["a%2Fb%7E%5B1%5D%40%25"]
    assert sequence.canonical["blocks"][0]["id"] == "a/b~[1]@%"
    assert sequence.references["h"] == {"a%2Fb%7E%5B1%5D%40%25"}


def test_long_handlers_leave_room_for_a_number() -> None:
    """A derived name is never longer than an id may be."""
    sequence = loaded(*(named("h" * 200) for _ in range(3)))
    assert load(sequence.canonical).canonical == sequence.canonical


def test_an_id_cannot_pose_as_an_internal_chain() -> None:
    """A given `@main` is not the main chain."""
    assert ids(named("h", id="@main")) == ["%40main"]


# -- forms ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("mark", ["tenant_id", "namespace", "name", "created_at"])
def test_one_mark_makes_it_the_contracts_form(mark: str) -> None:
    """Any of the four members holds the body to the contract's form."""
    status, problems = refusal({"blocks": [CHARGE], mark: CONTRACT[mark]})
    assert status == 422
    missing = {each.pointer for each in problems}
    assert missing == {f"/{each}" for each in CONTRACT if each != mark} | {"/blocks/0/id"}


def test_contract_header_arrives() -> None:
    """In the contract's form id, tenant, namespace and name are members of their own."""
    sequence = load(contract({**CHARGE, "id": "a"}, status="draft", deprecated=False))
    assert (sequence.id, sequence.tenant) == (CONTRACT["id"], "acme")
    assert (sequence.namespace, sequence.name, sequence.version) == ("billing", "dunning", 3)
    assert (sequence.form, sequence.dialect) == ("contract", Dialect.CONTRACT)


def test_contract_name_may_be_empty() -> None:
    """Existing clients send empty names."""
    assert load(contract({**CHARGE, "id": "a"}, name="")).name == ""


def test_contract_digest_ignores_what_differs_between_versions() -> None:
    """The digest is about the blocks, not about the row."""
    other = {"id": "7f1d3c3e-0b5e-4b53-9d5e-2f6f0c1a7a10", "version": 9, "status": "draft"}
    block = {**CHARGE, "id": "a"}
    assert load(contract(block)).sha256 == load(contract(block, **other)).sha256


def test_contract_form_warns_where_the_seed_refuses() -> None:
    """Unknown members, roots, blocks and bad syntax are remarks in the contract's form."""
    sequence = load(
        contract(
            {
                **CHARGE,
                "id": "a",
                "effect": "none",
                "colour": 1,
                "retry": {"max_attempts": 1, "initial_backoff": 1, "max_backoff": 1, "x": 1},
                "params": {"a": ["{{foo.bar}}"], "b": "{{outputs.nope.x}}", "c": "{{"},
                "delay": {
                    "duration": 5,
                    "timezone": "Mars",
                    "holidays": ["x"],
                    "fire_at_local": "x",
                },
            },
            {"id": "r", "type": "router", "routes": [{"condition": "a ===", "blocks": []}]},
        )
    )
    found = {each.pointer: each.code for each in sequence.warnings}
    assert found == {
        "/blocks/0/colour": "unknown_member",
        "/blocks/0/delay/fire_at_local": "ignored",
        "/blocks/0/delay/holidays/0": "ignored",
        "/blocks/0/delay/timezone": "ignored",
        "/blocks/0/params/a/0": "expression",
        "/blocks/0/params/b": "unknown_block",
        "/blocks/0/retry/x": "unknown_member",
        "/blocks/1/routes": "no_default",
        "/blocks/1/routes/0/blocks": "empty",
        "/blocks/1/routes/0/condition": "expression",
    }


def test_contract_guard_that_cannot_be_read_fails_its_step() -> None:
    """A malformed `when` is accepted when publishing and raises when it is asked."""
    sequence = load(contract({**CHARGE, "id": "a", "when": "a ==="}))
    when = sequence.index["a"].when
    assert when is not None
    with pytest.raises(ExpressionError):
        when.evaluate(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("member", MONEY_MEMBERS)
def test_near_miss_of_a_money_member_is_refused_in_either_form(member: str) -> None:
    """Nobody loses a fence to a typing error."""
    for body in (
        contract({**CHARGE, "id": "a", f"{member}x": 1}),
        seed({**CHARGE, f"x{member[1:]}": 1}),
    ):
        assert refusal(body)[1][0].code == "unknown_member"


@pytest.mark.parametrize(
    ("name", "other", "is_near"),
    [("fence", "fence", True), ("fenc", "fence", True), ("efcet", "effect", True), ("pence", "fence", True),
     ("rateLimit", "rate_limit", True), ("essence", "fence", False), ("abcde", "fence", False), ("", "x", True)],
)  # fmt: skip
def test_near_is_two_edits(name: str, other: str, is_near: Any) -> None:
    """Inserting, dropping and replacing a character are one edit each."""
    assert near(name, other) is is_near


# -- expressions ---------------------------------------------------------------------------------
def test_references_cover_every_expression_of_a_block() -> None:
    """Params, guard, retry_if, limit keys, not_before, custom keys and breach params all count."""
    sources = [named("h", id=each) for each in "abcdefg"]
    reader = named(
        "r",
        id="reader",
        params={"x": ["{{outputs.a.x}}"]},
        when="steps.b.ok",
        retry={"max_attempts": 2, "retry_if": "outputs.c.ok"},
        rate_limit_key="{{outputs.d.x}}",
        rate_limit={"max": 1, "window_seconds": 1},
        not_before="{{outputs.e.x}}",
        idempotency={"key": "{{outputs.f.x}}"},
        deadline="1d",
        on_deadline_breach={"handler": "h", "params": "{{outputs.g.x}}"},
    )
    sequence = loaded(*sources, reader)
    assert sequence.references["reader"] == set("abcdefg")
    assert sequence.handlers == {"h", "r"}


def test_expressions_may_name_later_and_inner_blocks() -> None:
    """An output that does not exist yet is null, wherever its block stands."""
    inner = {"type": "parallel", "branches": [[named("deep")]]}
    assert loaded(named("a", params="{{outputs.deep.x}}"), inner).references["a"] == {"deep"}


def test_root_without_a_value_is_pointed_out() -> None:
    """`signal` belongs to the language; that nothing provides it yet is said when publishing."""
    assert codes(named("a", params={"x": "{{signal.payload}}"})) == [
        ("not_yet", "/blocks/0/params/x")
    ]


@pytest.mark.parametrize("root", ["vars", "batch", "period", "tenant"])
def test_root_of_a_later_version_is_refused_as_such(root: str) -> None:
    """It is no unknown root, but it does not work today."""
    _, problems = refusal(seed(named("a", params=["{{" + root + ".x}}"])))
    assert [(each.code, each.pointer) for each in problems] == [("not_yet", "/blocks/0/params/0")]


# -- schemas -------------------------------------------------------------------------------------
def test_input_schema_checks_data() -> None:
    """The compiled schema says what is wrong with a value."""
    schema = loaded(
        CHARGE, input_schema={"required": ["id"], "properties": {"n": {"type": "integer"}}}
    ).input_schema
    assert schema is not None
    assert list(schema.iter_errors({"id": 1, "n": 2})) == []
    found = list(schema.iter_errors({"n": "x"}))
    assert sorted(list(each.absolute_path) for each in found) == [[], ["n"]]


def test_schema_may_refer_to_itself() -> None:
    """References into the schema work; one that never ends is reported, not raised."""
    tree = {
        "$defs": {"t": {"type": "object", "properties": {"c": {"$ref": "#/$defs/t"}}}},
        "$ref": "#/$defs/t",
    }
    sequence = loaded({**CHARGE, "output_schema": tree})
    assert list(sequence.output_schemas["charge"].iter_errors({"c": {"c": {}}})) == []
    endless = loaded({**CHARGE, "output_schema": {"$ref": "#"}}).output_schemas["charge"]
    assert "nested too deep" in next(endless.iter_errors({})).message


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$schema": {}}, "/$schema"),
        ({"$ref": "#/$defs/x"}, "/$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref"),
        ({"properties": {"a": {"$ref": 3}}}, "/properties/a/$ref"),
        ({"minimum": "1"}, "/minimum"),
    ],
)
def test_schema_that_does_not_compile_is_refused(schema: Any, pointer: str) -> None:
    """Nothing is fetched, and what is wrong is found when publishing."""
    status, problems = refusal(seed(CHARGE, input_schema=schema))
    assert (status, [each.pointer for each in problems]) == (400, [f"/input_schema{pointer}"])


def test_deep_schema_is_refused() -> None:
    """A schema that could exhaust the stack is not compiled."""
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"not": deep}
    assert "nested more than 32" in refusal(seed(CHARGE, input_schema=deep))[1][0].message


def test_schema_check_survives_an_almost_full_stack() -> None:
    """A caller deep in its own stack gets a problem, not a RecursionError."""
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"not": deep}

    def below(levels: int) -> list[str]:
        if levels:
            return below(levels - 1)
        return [each.message for each in compile_schema(deep)[1]]

    answers = [below(0)]
    with suppress(RecursionError):  # in the end there is no room for the call itself
        answers.extend(below(levels) for levels in range(0, sys.getrecursionlimit(), 20))
    assert answers[0] == []
    assert answers[-1] == ["the JSON Schema is nested too deep"]


# -- bounds --------------------------------------------------------------------------------------
def nest(levels: int, kind: str = "cancellation_scope") -> dict[str, Any]:
    block: dict[str, Any] = dict(CHARGE)
    for _ in range(levels - 1):
        if kind == "router":
            block = {
                "type": "router",
                "routes": [{"condition": "now", "blocks": [block]}],
                "default": [],
            }
        else:
            block = {"type": kind, "blocks": [block]}
    return block


@pytest.mark.parametrize("kind", ["cancellation_scope", "router"])
def test_blocks_nest_64_deep_and_no_deeper(kind: str) -> None:
    """The 64th level loads, the 65th is refused."""
    assert len(loaded(nest(64, kind)).index) > 64
    status, problems = refusal(seed(nest(65, kind)))
    assert (status, [each.code for each in problems]) == (400, ["too_large"])


def test_number_of_blocks_is_bounded() -> None:
    """The limit counts every block of the document."""
    body = seed({"type": "parallel", "branches": [[CHARGE, CHARGE], [CHARGE]]})
    assert len(load(body, limits=Limits(blocks=4)).index) == 7
    assert [each.code for each in refusal(body, limits=Limits(blocks=3))[1]] == ["too_large"]


def cyclic() -> Any:
    body = seed(CHARGE)
    body["blocks"].append(body)
    return body


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return seed({**CHARGE, "params": value})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (cyclic(), "nested more than 400"),
        (deep(), "nested more than 400"),
        (seed({**CHARGE, "params": "a\0b"}), "NUL"),
        (seed({**CHARGE, "params": "é\0b"}), "NUL"),
        (seed({**CHARGE, "params": {"\0": 1}}), "name must be text"),
        (seed({**CHARGE, "params": {1: 1}}), "name must be text"),
        (seed({**CHARGE, "params": "\ud800"}), "surrogate"),
        (seed({**CHARGE, "params": 2**63}), "64 bits"),
        (seed({**CHARGE, "params": float("nan")}), "not finite"),
        (seed({**CHARGE, "params": {1, 2}}), "no JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused_first(body: Any, message: str) -> None:
    """Values that no JSON document has, or that the database cannot keep, go no further."""
    status, problems = refusal(body)
    assert status == 422
    assert len(problems) == 1
    assert message in problems[0].message


def test_largest_definition_loads_in_well_under_a_second() -> None:
    """5,000 blocks with an expression each; measured in processor time, with room for slow machines."""
    blocks = [named("charge", params={"amount": "{{data.amount}}", "n": n}) for n in range(5000)]
    began = process_time()
    sequence = load(seed(*blocks))
    assert process_time() - began < 2.0
    assert len(sequence.index) == 5001


def test_number_of_warnings_is_bounded() -> None:
    """A thousand remarks are not a thousand lines."""
    races = [{"type": "race", "branches": [[CHARGE]]}] * 30
    assert len(load(seed(*races), limits=Limits(problems=10)).warnings) == 10


def test_contract_wait_may_have_params_of_its_own() -> None:
    """In the contract's form `wait` may be a client's own habit: what it does not read is remarked on."""
    sequence = load(contract({"type": "step", "id": "w", "handler": "wait", "params": {"days": 3}}))
    assert [each.code for each in sequence.warnings] == ["unknown_param"]


def test_flood_of_unknown_members_is_bounded_work() -> None:
    """A hundred thousand unknown members cost no more than reading them."""
    began = process_time()
    _, problems = refusal(seed({**CHARGE, **{f"effec{n}": 1 for n in range(50_000)}}))
    assert process_time() - began < 2.0
    assert len(problems) == 100


# -- remarks -------------------------------------------------------------------------------------
ROUTE = {"condition": "now", "blocks": [CHARGE]}
REMARKS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "router", "routes": [ROUTE]}, "no_default", "/routes"),
    ({"type": "router", "routes": [{"default": True, "blocks": [CHARGE]}, ROUTE]}, "order", "/routes/0"),
    ({"type": "router", "routes": [{**ROUTE, "condition": "{{ true }}"}], "default": [CHARGE]}, "unreachable", "/routes/0/condition"),
    ({"type": "router", "routes": [{**ROUTE, "blocks": []}], "default": [CHARGE]}, "empty", "/routes/0/blocks"),
    ({"type": "parallel", "branches": [[CHARGE], []]}, "empty", "/branches/1"),
    ({"type": "race", "branches": [[CHARGE]]}, "lint", "/branches"),
    ({"type": "loop", "body": [CHARGE]}, "unbounded", ""),
    ({"type": "loop", "condition": "true", "body": [CHARGE]}, "unbounded", ""),
    ({"type": "for_each", "collection": "x", "body": [CHARGE]}, "default_bound", ""),
    ({"type": "try_catch", "try": [CHARGE], "catch": []}, "empty", ""),
    ({"type": "try_catch", "try": [CHARGE]}, "lint", ""),
    ({"type": "saga", "steps": []}, "empty", "/steps"),
    ({"type": "ab_split", "variants": [{"name": "a", "weight": 0, "blocks": [CHARGE]}, {"name": "b", "weight": 1, "blocks": [CHARGE]}]}, "lint", "/variants/0/weight"),
    (named("log", params={"mesage": 1}), "unknown_param", "/params"),
    (named("nop"), "handler", "/handler"),
    (named("wait"), "lint", ""),
    (named("h", timeout="2h", deadline="1h"), "lint", "/timeout"),
    (named("h", on_deadline_breach={"handler": "h"}), "lint", "/on_deadline_breach"),
    (named("h", rate_limit_key="k"), "unlimited", "/rate_limit_key"),
    ({"type": "loop", "until": "true", "body": [CHARGE], "retain_iterations": 3}, "ignored", "/retain_iterations"),
    ({"type": "for_each", "collection": "x", "max_iterations": 3, "body": [CHARGE], "retain_iterations": 3}, "ignored", "/retain_iterations"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "code", "pointer"), REMARKS, ids=[f"{b['type']} {c}" for b, c, _ in REMARKS]
)
def test_suspicious_block_is_remarked_on(block: dict[str, Any], code: str, pointer: str) -> None:
    """What is legal but looks wrong loads with one remark at its place."""
    assert codes(block) == [(code, f"/blocks/0{pointer}")]


SOUND: list[dict[str, Any]] = [
    {"type": "router", "routes": [ROUTE, {"default": True, "blocks": [CHARGE]}]},
    {"type": "router", "routes": [ROUTE, {"default": True, "blocks": []}]},
    {"type": "loop", "max_iterations": 3, "body": [CHARGE]},
    {"type": "loop", "condition": "{{data.more}}", "body": [CHARGE]},
    {"type": "race", "branches": [[CHARGE], [CHARGE]]},
    {"type": "try_catch", "try": [CHARGE], "finally": [CHARGE]},
    named("log", params={"message": 1}),
    named("transform", params={"whatever": 1}),
    named("wait", delay="1d"),
    named("wait", params={"duration": "{{data.pause}}"}),
    named("h", timeout="1h", deadline="2h", on_deadline_breach={"handler": "h"}),
    named("h", timeout="1h", deadline={"months": 1}),
    named("assert", params={"condition": True}),
    named("h", rate_limit_key="k", rate_limit={"max": 1, "window_seconds": 1}),
]


@pytest.mark.parametrize("block", SOUND, ids=[str(n) for n in range(len(SOUND))])
def test_sound_block_has_no_remarks(block: dict[str, Any]) -> None:
    """Nobody is told about what is fine."""
    assert codes(block) == []


def test_key_is_limited_wherever_its_limit_stands() -> None:
    """One step's inline limit is enough for all that share the key."""
    limited = named("a", rate_limit_key="k", rate_limit={"max": 1, "window_seconds": 1})
    listed = named("a", rate_limits=[{"key": "j", "max": 1, "window_seconds": 1}])
    assert (
        codes(limited, listed, named("b", rate_limit_key="k"), named("b", rate_limit_key="j")) == []
    )


@pytest.mark.parametrize("ending", [{"type": "end"}, named("fail")])
def test_nothing_is_reached_after_the_end(ending: dict[str, Any]) -> None:
    """Steps behind an unconditional end of their branch are pointed out, once per branch."""
    assert codes(ending, named("a"), named("b")) == [("unreachable", "/blocks/1")]
    assert codes({**ending, "when": "data.x"}, named("a")) == []


# -- the tables ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_type_is_documented_and_known_by_its_name(name: str) -> None:
    """The table of schemas and the table of blocks are one."""
    schema = SCHEMAS[name]
    assert type(schema).__doc__
    assert name in (schema.type, *schema.aliases)
    assert (schema.block is None) == bool(schema.later)
    assert schema.block is None or BLOCKS[schema.block.type] is schema.block


def test_body_survives_json() -> None:
    """The canonical form is JSON: it comes back from a database as it went in."""
    canonical = loaded(nest(5), named("wait", delay={"days": 3})).canonical
    assert json.loads(json.dumps(canonical)) == canonical
