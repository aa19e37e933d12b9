"""Templates in both dialects: where expressions stand in JSON, and what filters make of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orch8.engine.expressions import Dialect, compile_template, find_expressions
from orch8.errors import ExpressionError

DATA: dict[str, Any] = {
    "name": " Ada ",
    "amount": 9900,
    "rate": -2.5,
    "null": None,
    "blank": "",
    "list": ["a", 1, {"b": None}],
    "items": [1],
    "b64": "w6k=",
    "word": "é/ü?",
    "sep": "-",
    "long": "x" * 3_000_000,
    "input": {"x": 1},
}


class World:
    """A small instance for templates."""

    def root(self, name: str) -> Any:
        roots = {
            "context": {"data": DATA, "config": {"region": "eu"}},
            "data": DATA,
            "config": {"region": "eu"},
            "input": DATA["input"],
            "instance_id": "i-1",
            "state": {"k": [7]},
        }
        return roots[name]

    def output(self, block_id: str) -> Any:
        return {"charge": {"id": "ch_1", "ok": True}}.get(block_id)

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def entropy(self) -> float:
        return 0.5


def contract(value: Any) -> Any:
    return compile_template(value, Dialect.CONTRACT).render(World())


def seed(value: Any) -> Any:
    return compile_template(value, Dialect.SEED).render(World())


def same(value: Any, expected: Any) -> bool:
    return type(value) is type(expected) and bool(value == expected)


@pytest.mark.parametrize("render", [contract, seed])
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{context.data.amount}}", 9900),
        ("{{ context.data.amount }}", 9900),
        (" {{context.data.amount}}", " 9900"),
        ("{{context.data.list}}", ["a", 1, {"b": None}]),
        ("{{context.data.list.2.b}}", None),
        ("a {{context.data.list}} b", 'a ["a",1,{"b":null}] b'),
        ("{{context.data.null}}!", "null!"),
        ("{{outputs.charge.ok}}{{steps.charge.id}}", "truech_1"),
        ("{{outputs.nobody.x}}", None),
        ("{{instance_id}}", "i-1"),
        ("{{input.x}}", 1),
        ("{{state.k.0}}", 7),
        ("{{context.data.gone|'x'}}", "x"),
        ("{{context.data.gone|context.data.null|context.data.amount}}", 9900),
        ("{{context.data.name|trim|upper}}", "ADA"),
        ("{{context.data.name|lower}}", " ada "),
        ("{{context.data.amount|upper}}", ""),
        ("{{context.data.blank|default('y')}}", "y"),
        ("{{context.data.amount|default('y')}}", 9900),
        ("{{context.data.gone|default(context.data.sep)}}", "-"),
        ("{{context.data.word|url_encode}}", "%C3%A9%2F%C3%BC%3F"),
        ("{{context.data.word|base64}}", "w6kvw7w/"),
        ("{{context.data.b64|base64_decode}}", "é"),
        ("{{context.data.name|replace('Ada', 'Bob')}}", " Bob "),
        ("{{context.data.amount|replace('9', context.data.sep)}}", "--00"),
        ("{{context.data.name|trim|truncate(2)}}", "Ad"),
        ("{{context.data.name|trim|truncate(2, '…')}}", "Ad…"),
        ("{{context.data.name|trim|truncate(3, '…')}}", "Ada"),
        ("{{context.data.list|join(', ')}}", 'a, 1, {"b":null}'),
        ("{{context.data.list|join}}", 'a1{"b":null}'),
        ("{{context.data.amount|join('-')}}", ""),
        ("{{context.data.word|split('/')}}", ["é", "ü?"]),
        ("{{context.data.sep|split('')}}", ["-"]),
        ("{{context.data.amount|split('/')}}", [""]),
        ("{{context.data.sep|hash('sha256')|truncate(8)}}", "3973e022"),
        ("{{context.data.rate|round(1)}}", -2.5),
        ("{{len(context.data.word)}}", 6),
        ("{{json(context.data.list)}}", '["a",1,{"b":null}]'),
        ("'{{context.data.sep}}'", "'-'"),
        ("}} {{context.data.sep}}", "}} -"),
        ({"{{context.data.sep}}": ["{{context.data.sep}}", 1]}, {"{{context.data.sep}}": ["-", 1]}),
    ],
)
def test_template_renders_the_same_in_both_forms(render: Any, template: Any, expected: Any) -> None:
    """What both forms share renders to one value."""
    assert same(render(template), expected)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{context.data.missing|default_a|default_b|default_c}}", "default_a"),
        ("{{context.data.items[0]}}", None),
        ("x{{context.data.items[0]}}", "xnull"),
        ("{{context.data.a == 1}}", None),
        ("{{context.data.gone|null|'x'}}", None),
        ("{{context.data.gone|true|upper}}", ""),
        ("{{context.data.gone|5}}", 5.0),
        ("{{context.data.gone|-1.5|7}}", -1.5),
        ("{{context.data.gone|'a|b'}}", "'a"),
        ("{{context.data.gone|replace('|', ')')}}", "null"),
        ("{{context.data.sep|replace('-', ')')}}", ")"),
        ("{{context.data.sep|replace('-', \"a,b\")}}", "a,b"),
        ("{{context.data.gone|default(5)}}", 5.0),
        ("{{context.data.gone|default(null)}}", None),
        ("{{context.data.gone|default(n/a)}}", "n/a"),
        ("{{context.data.amount|replace(9, 1)}}", "1100"),
        ("{{context.data.gone|len(context.data.items)}}", 1),
        ("{{context.data.amount|nofunc(x)}}", 9900),
        ("{{context.data.name|trim|ignored|upper}}", "ADA"),
        ("{{context.data.amount|abs}}", 9900.0),
        ("{{context.data.name|abs}}", 0.0),
        ("{{context.data.rate|round(0)}}", -3.0),
        ("{{context.data.amount|round(-2)}}", 9900.0),
        ("{{outputs}}", None),
        ("{{runtime.attempt}}", None),
        ("{{config.region}}", "eu"),
        ("{{ it's", "{{ it's"),
        ("{{ it's }} {{config.region}}", "{{ it's }} {{config.region}}"),
        ("a {{config.region}} {{", "a eu {{"),
        ("{{config.region|'}}'}}", "eu"),
    ],
)
def test_contract_template_follows_its_own_rules(template: str, expected: Any) -> None:
    """In the contract's form a template is paths, literals and filters, nothing else."""
    assert same(contract(template), expected)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{foo.bar}}", "unknown template root: foo"),
        ("{{contxt.data.x}}", "did you mean context?"),
        ("{{}}", "unknown template root"),
        ("{{'x'}}", "unknown template root"),
        ("{{upper(context.data.x)}}", "unknown template root: upper"),
        ("{{context}}", "write context.data"),
        ("{{context.audit.x}}", "unknown template root: context.audit.x"),
        ("{{nofunc(data.x)}}", "unknown template function: nofunc"),
        ("{{len(foo)}}", "unknown template root: foo"),
        ("{{data.gone|nofunc(x)}}", "unknown template function"),
        ("{{data.sep|replace('a')}}", "replace takes 2 arguments"),
        ("{{data.sep|hash}}", "hash takes 1"),
        ("{{data.sep|hash(md5)}}", "sha256 only"),
        ("{{data.sep|replace('', 'x')}}", "a text to search for"),
        ("{{data.sep|truncate(x)}}", "truncate needs a number"),
        ("{{data.sep|base64_decode}}", "bad base64"),
        ("{{data.long|replace('x', 'yy')}}", "4 MiB"),
        ("{{data.long|url_encode|base64|base64}}", "4 MiB"),
        ("{{data.long}}{{data.long}}", "4 MiB"),
        ("{{data." + "x" * 70_000 + "}}", "longer than 65536 bytes"),
    ],
)
def test_contract_template_fails_when_rendered(template: str, says: str) -> None:
    """A mistake in the contract's form is published, and fails each rendering."""
    compiled = compile_template({"a": [template]}, Dialect.CONTRACT)
    for _ in range(2):
        with pytest.raises(ExpressionError, match=says):
            compiled.render(World())


def test_contract_template_lists_its_problems() -> None:
    """What will fail for certain is known before, with its place."""
    compiled = compile_template({"a/b": ["{{foo}}", "{{data.x}}"]}, Dialect.CONTRACT)
    assert [problem.extra["pointer"] for problem in compiled.problems] == ["/a~1b/0"]
    assert compiled.roots == {"data"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{context.data.amount + 1}}", 9901),
        ("{{context.data.items[0]}}", 1),
        ("{{context.data.amount|abs}}", 9900),
        ("{{context.data.gone|context.data.items[0]}}", 1),
        ("{{context.data.gone or 'UTC'}}", "UTC"),
        ("{{'}}'}}", "}}"),
        ("until {{now + days(1)}}", "until 2026-11-23T00:00:00.000000Z"),
        ({"wait": "{{days(2)}}"}, {"wait": {"days": 2}}),
        ("{{'a|b' | upper}}", "A|B"),
    ],
)
def test_seed_template_is_an_expression(template: Any, expected: Any) -> None:
    """In the seed's form any expression may stand between the braces."""
    assert same(seed(template), expected)


@pytest.mark.parametrize(
    ("template", "pointer", "says"),
    [
        ({"a": ["{{ x + }}"]}, "/a/0", "ends too early"),
        ({"a": {"~": "{{ foo.x }}"}}, "/a/~0", "unknown root foo"),
        ("{{ open", "", "is not closed"),
        ("{{context}} {{ it's }}", "", "is not closed"),
        ("{{}}", "", "ends too early"),
    ],
)
def test_seed_template_is_refused_when_compiled(template: Any, pointer: str, says: str) -> None:
    """A mistake in the seed's form is refused at once, with the pointer of its string."""
    with pytest.raises(ExpressionError, match=says) as caught:
        compile_template(template, Dialect.SEED, {"context", "x"})
    assert caught.value.extra["pointer"] == pointer


def test_template_knows_what_it_reads() -> None:
    """The blocks and roots of all expressions are known before rendering."""
    value = ["{{outputs.a.x}}", {"k": "{{context.data.y}} {{steps.b}}"}]
    for dialect in Dialect:
        compiled = compile_template(value, dialect)
        assert compiled.outputs == {"a", "b"}
        assert compiled.roots == {"context"}
        assert not compiled.is_constant


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("value", [None, 1, "x", "}}", [], {"a": [1, {"b": "c"}]}])
def test_constant_template_renders_to_itself(dialect: Dialect, value: Any) -> None:
    """Without expressions rendering gives back the very value."""
    compiled = compile_template(value, dialect)
    assert compiled.is_constant
    assert compiled.render(World()) is value


def test_template_leaves_the_definition_alone() -> None:
    """Rendering builds a new object, in the order of the definition."""
    value = {"b": "{{data.sep}}", "a": [1], "c": {"d": 1}}
    compiled = compile_template(value, Dialect.SEED)
    assert list(compiled.render(World())) == ["b", "a", "c"]
    assert value["b"] == "{{data.sep}}"


def test_template_depth_is_bounded() -> None:
    """A value nested too deeply is refused."""
    value: Any = "{{data.x}}"
    for _ in range(200):
        value = [value]
    with pytest.raises(ExpressionError, match="nested at most"):
        compile_template(value, Dialect.SEED)


def test_template_survives_deep_values() -> None:
    """A value too deep to be written into a text is an error, not a crash."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    DATA["deep"] = deep
    with pytest.raises(ExpressionError, match="nested too deeply"):
        seed("x {{context.data.deep}}")
    del DATA["deep"]
    while deep:  # taken apart by hand: freeing it whole would recurse as well
        deep = deep.pop()


def test_rounding_leaves_huge_numbers_alone() -> None:
    """Numbers without a fraction to lose are not rounded."""
    assert seed("{{1000000000000000000000 | round(2)}}") == 1e21


def test_find_expressions_gives_places_in_order() -> None:
    """Every expression is found with the pointer of its string, in document order."""
    value = {"a": ["x", "{{ 1 }}{{ '}}' }}"], "b/~": {"c": "-{{d}}"}, "e": 5, "f": "{{ open"}
    assert list(find_expressions(value)) == [
        ("/a/1", " 1 "),
        ("/a/1", " '}}' "),
        ("/b~1~0/c", "d"),
    ]
    assert list(find_expressions("{{x}}")) == [("", "x")]
