"""Remarks about money: which documents earn which, where, and that what they advise mends them."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

import json
from pathlib import Path
from time import process_time
from typing import Any

import pytest

import orch8
from orch8.definition import load
from orch8.errors import Unprocessable
from tests.support.documents import contract, seed
from tests.support.money import (
    CHECK,
    DOUBT,
    DOWN,
    END,
    END_IF_PAID,
    MONEY,
    NOT_PAID,
    PAID,
    RETRY,
    SOUND,
    loop,
    on,
    remarks,
    router,
)

EXAMPLES = Path(orch8.__file__).parent / "examples"


# -- the customer's documents --------------------------------------------------------------------
SEEDS = {
    "payment_dunning": [
        ("effect", "/blocks/0"),
        ("effect", "/blocks/1/routes/1/blocks/1"),
        ("downgrade", "/blocks/1/routes/1/blocks/5"),
    ],
    "invoice_retry": [
        ("effect", "/blocks/0"),
        ("effect", "/blocks/2"),
        ("charged_again", "/blocks/2"),
        ("downgrade", "/blocks/6"),
    ],
}


@pytest.mark.parametrize("name", SEEDS)
def test_seed_document_publishes_with_exactly_these_remarks(name: str) -> None:
    """A customer who paid on day 3 is downgraded, and one who paid at once is charged again."""
    body = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert remarks(body) == SEEDS[name]
    assert [each.code for each in load(body).warnings if not each.code.startswith("money.")] == []


def test_seed_says_which_payment_is_not_asked_and_what_to_write() -> None:
    """The remark on the downgrade names the retry and gives the block that is missing."""
    body = json.loads((EXAMPLES / "payment_dunning.json").read_text())
    remark = load(body).warnings[-1]
    assert remark.message == (
        'block "downgrade_account": can still run although "retry_with_backup_method" may have '
        "succeeded: no condition in between settles how it ended"
    )
    assert remark.hint == (
        'put {"type": "end", "outcome": "paid", "when": '
        "\"{{outputs.retry_with_backup_method.outcome == 'succeeded'}}\"} "
        'behind "retry_with_backup_method"'
    )


def test_advice_for_the_seed_mends_it() -> None:
    """With the blocks that the remarks give, only the effects are left to state."""
    body = json.loads((EXAMPLES / "invoice_retry.json").read_text())
    hints = [
        w.hint for w in load(body).warnings if w.code in ("money.charged_again", "money.downgrade")
    ]
    ends = [json.loads(hint[hint.index("{") : hint.rindex("}") + 1]) for hint in hints]
    body["blocks"][3:3] = [ends[1]]
    body["blocks"][1:1] = [ends[0]]
    assert [code for code, _ in remarks(body)] == ["effect", "effect"]


# -- what a step does not say --------------------------------------------------------------------
def bare(*without: str, **members: Any) -> dict[str, Any]:
    return {name: value for name, value in {**SOUND, **members}.items() if name not in without}


STEPS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (SOUND, []),
    (bare("effect", "fence", "on_unknown", "money"), [("effect", "")]),
    (bare("fence"), [("fence", "")]),
    (bare("on_unknown"), [("on_unknown", "")]),
    (bare("money"), [("amount", "")]),
    (bare("money", effect="irrevocable"), []),
    (bare("fence", "on_unknown", "money", effect="external"), []),
    (bare(fence="charges"), [("shared_fence", "/fence")]),
    (bare(money={**MONEY, "amount": 99.5}), [("amount_float", "/money/amount")]),
    (bare(money={**MONEY, "amount": "99.00"}), [("amount_float", "/money/amount")]),
    (bare(money={**MONEY, "amount": 9900}), []),
    (bare(provider="stripe"), [("provider", "/provider")]),
    (bare(provider="stripe_v1"), []),
    (bare(provider="paypal", idempotency={"header": "Idempotency-Key"}), [("key_header", "/idempotency/header")]),
    (bare(provider="adyen", idempotency={"header": "Idempotency-Key"}), []),
    (bare(provider="qonto", idempotency={"ttl": "24h"}), [("key_ttl", "/idempotency/ttl")]),
    (bare(provider="qonto", idempotency={"ttl": "20m"}), []),
    (bare(provider="qonto"), []),
    (bare(handler="http_request", provider="paypal", params={"url": "https://a.b/"}), []),
    (bare(retry={"schedule": ["1m", "10m"]}), []),
    (bare(retry={"schedule": ["1m", "10h", "12h"]}), [("retry_outlives_key", "/retry")]),
    (bare(retry={"schedule": ["1m", "10h", "12h"]}, provider="stripe_v2"), []),
    (bare(retry={"schedule": ["1m", "10h", "12h"], "on": ["declined"]}), []),
    (bare(retry={"max_attempts": 8, "backoff": "1m"}, provider="qonto"), [("retry_outlives_key", "/retry")]),
    (bare(on_unknown={**DOUBT, "schedule": ["30s", "2d"]}), []),
    (bare(on_unknown={**DOUBT, "schedule": ["1h"]}, provider="qonto"), [("question_too_late", "/on_unknown/schedule/0")]),
    (bare(retry={"max_attempts": 2, "on": ["declined"]}, idempotency={"scope": "iteration"}), [("decline_replayed", "/idempotency/scope")]),
    (bare(retry={"max_attempts": 2, "on": ["declined"]}, idempotency={"key": "k:{{data.id}}"}), [("decline_replayed", "/idempotency/key")]),
]  # fmt: skip


@pytest.mark.parametrize(("block", "expected"), STEPS, ids=[str(n) for n in range(len(STEPS))])
def test_step_earns_exactly_these_remarks(
    block: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """What a step leaves open is pointed out at its place, and nothing else is."""
    assert on(block) == [(code, f"/blocks/0{pointer}") for code, pointer in expected]


FIXES = [
    (block, expected) for block, expected in STEPS if expected and "scope" not in expected[0][1]
]


@pytest.mark.parametrize(("block", "expected"), FIXES, ids=[each[1][0][0] for each in FIXES])
def test_fix_can_be_pasted(block: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The advice begins with members that, put where it points, silence the remark."""
    (remark,) = [each for each in load(seed(block)).warnings if each.code.startswith("money.")]
    text = remark.hint.removesuffix(" in idempotency").split(", or ")[0].split(", and ")[0]
    fix = json.loads(f"{{{text}}}")
    member = remark.pointer.removeprefix("/blocks/0").split("/")[1:2]
    part = member[0] if member and isinstance(block.get(member[0]), dict) else None
    if text.startswith('"header"'):
        part = "idempotency"
    fixed = {**block, **fix} if part is None else {**block, part: {**block.get(part, {}), **fix}}
    if "retry" in expected[0][1]:  # fewer tries, so fewer waits
        fixed["retry"] = {
            **fixed["retry"],
            "schedule": fixed["retry"].get("schedule", ["1m"])[: fix["max_attempts"] - 1],
        }
    assert expected[0][0] not in [code for code, _ in on(fixed)]


def test_fence_for_everybody_is_fine_where_one_instance_runs_at_a_time() -> None:
    """A sequence that is unique as a whole has nobody to wait behind its fence."""
    block = bare(fence="run")
    assert on(block, unique={"key": "daily_run"}) == []
    assert on(block, unique={"key": "run:{{context.data.customer_id}}"}) == [
        ("shared_fence", "/blocks/0/fence")
    ]


def test_advice_uses_the_names_of_the_document() -> None:
    """A fence is suggested by what the document itself requires, has as a fence, or is unique by."""

    def advised(**members: Any) -> str:
        return load(seed(bare("fence"), **members)).warnings[0].hint

    assert advised() == '"fence": "invoice:{{context.data.invoice_id}}"'
    assert (
        advised(input_schema={"required": ["amount", "order_id"]})
        == '"fence": "order:{{context.data.order_id}}"'
    )
    assert advised(unique={"key": "bill:{{data.bill}}"}) == '"fence": "bill:{{data.bill}}"'
    other = {**RETRY, "fence": "sub:{{data.sub}}"}
    assert (
        load(seed(bare("fence"), END_IF_PAID, other)).warnings[0].hint
        == '"fence": "sub:{{data.sub}}"'
    )


def test_handler_has_one_effect() -> None:
    """A step that calls money by another name is pointed out, a harmless use of it is not."""
    other = {"type": "step", "id": "x", "handler": "psp"}
    money = {**SOUND, "handler": "psp"}
    assert on(other, money) == [("effects_differ", "/blocks/0")]
    assert on({**other, "effect": "external"}, money) == [("effects_differ", "/blocks/0/effect")]
    assert on({**other, "effect": "read"}, money) == []
    unsaid = {"type": "step", "id": "b", "handler": "charge"}
    assert on(SOUND, END_IF_PAID, unsaid, END) == [
        ("effect", "/blocks/2"),
        ("outcome_unread", "/blocks/2"),
    ]


def test_key_of_your_own_changes_from_one_iteration_to_the_next() -> None:
    """A key that only reads the context is the same in every iteration: the first answer comes back."""

    def keyed(key: str) -> dict[str, Any]:
        return {**SOUND, "idempotency": {"key": key}}

    same, pointer = keyed("k:{{data.id}}"), "/blocks/0/body/0/idempotency/key"
    assert on(loop(PAID, same)) == [("key_in_loop", pointer)]
    assert on(loop(PAID, keyed("k:{{data.id}}:{{iteration}}"))) == []
    assert on(loop(PAID, keyed("k:{{outputs.check.id}}"), CHECK)) == []
    assert on(same) == []
    each = {
        "type": "for_each",
        "collection": "{{data.items}}",
        "item_var": "p",
        "max_iterations": 9,
    }
    gate = {"type": "step", "handler": "fail", "when": NOT_PAID}
    assert on({**each, "body": [keyed("k:{{p.id}}"), gate]}) == []
    assert on({**each, "body": [keyed("k:{{context.data.p.id}}"), gate]}) == []
    assert on({**each, "body": [same, gate]}) == [("key_in_loop", pointer)]


# -- strictness, forms, bounds --------------------------------------------------------------------
def test_strict_publisher_gets_remarks_about_money_as_problems() -> None:
    """Strictly, what may cost money is refused with 422, and other remarks stay remarks."""
    body = seed(bare("fence"), {"type": "race", "branches": [[{"type": "noop"}]]})
    body["blocks"][1]["branches"] = [[CHECK]]
    with pytest.raises(Unprocessable) as refused:
        load(body, strict=True)
    assert [each.code for each in refused.value.errors] == ["money.fence", "money.outcome_unread"]
    assert [each.code for each in load(body).warnings] == [
        "money.fence",
        "money.outcome_unread",
        "lint",
    ]
    body["blocks"] = [SOUND, END_IF_PAID, body["blocks"][1]]
    assert [each.code for each in load(body, strict=True).warnings] == ["lint"]


def test_strict_publisher_hears_of_a_rate_limit_that_is_not_there() -> None:
    """A key that nothing limits is refused strictly, and else remarked on."""
    body = seed({**CHECK, "rate_limit_key": "stripe"})
    assert [each.code for each in load(body).warnings] == ["unlimited"]
    with pytest.raises(Unprocessable):
        load(body, strict=True)


def test_strictness_is_not_outrun_by_other_remarks() -> None:
    """A hundred remarks of another kind do not hide the one about money."""
    races = [{"type": "race", "branches": [[{**CHECK, "id": f"c{n}"}]]} for n in range(120)]
    with pytest.raises(Unprocessable):
        load(seed(*races, bare("fence")), strict=True)


def test_contracts_form_is_read_the_same_way() -> None:
    """In the long form the same path is found, through its looser conditions too."""
    charge, down = {**SOUND}, {**DOWN, "id": "down"}
    tested = {**END, "id": "end", "when": "outputs.charge.outcome == 'succeeded'"}
    assert remarks(contract(charge, down)) == [("downgrade", "/blocks/1")]
    assert remarks(contract(charge, tested, down)) == []
    loose = router((f"{PAID[2:-2]} x", [{**END, "id": "end"}])) | {"id": "router"}
    assert remarks(contract(charge, loose, down)) == []
    unreadable = router(("(outputs.charge", [{**END, "id": "end"}])) | {"id": "router"}
    assert remarks(contract(charge, unreadable, down)) == [("downgrade", "/blocks/2")]


def deep(levels: int) -> list[Any]:
    blocks: list[Any] = [{**SOUND, "id": "c"}]
    for n in range(levels):
        guarded = [{**SOUND, "id": f"c{n}_{k}", "when": "{{data.x}}"} for k in range(40)]
        tail = [{**DOWN, "id": f"d{n}", "when": "{{data.y}}"}]
        blocks = [loop("{{data.z}}", *guarded, *blocks, *tail)]
    return blocks


@pytest.mark.parametrize(
    "blocks",
    [
        [{**SOUND, "id": f"c{n}", "when": "{{data.x}}"} for n in range(4990)] + [DOWN],
        deep(60),
    ],
    ids=["long", "deep"],
)
def test_largest_document_is_looked_through_quickly(blocks: list[Any]) -> None:
    """Thousands of payments in loops cost time in proportion; with room for slow machines."""
    began = process_time()
    assert load(seed(*blocks)).warnings
    assert process_time() - began < 6.0
