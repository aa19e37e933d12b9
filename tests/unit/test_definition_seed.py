"""The customer's three documents, verbatim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import orch8
from orch8.blocks.router import Router
from orch8.blocks.step import Step
from orch8.definition import Sequence, load
from orch8.engine.duration import Duration
from orch8.engine.expressions import Dialect
from orch8.engine.timing import Delay
from orch8.errors import Unprocessable

EXAMPLES = Path(orch8.__file__).parent / "examples"


def document(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_text())


def step(sequence: Sequence, block_id: str) -> Step:
    block = sequence.index[block_id]
    assert isinstance(block, Step)
    return block


def given_ids(sequence: Sequence) -> set[str]:
    return {each for each in sequence.index if not each.startswith("@")}


def test_dunning_blocks_are_named_by_what_they_do() -> None:
    """A block without an id takes its handler's name; a repeat is counted in document order."""
    sequence = load(document("payment_dunning"))
    assert given_ids(sequence) == {
        "charge_payment_method",
        "router",
        "activate_subscription",
        "wait",
        "retry_with_backup_method",
        "wait_2",
        "send_payment_reminder",
        "wait_3",
        "downgrade_account",
    }
    waits = [step(sequence, each).delay for each in ("wait", "wait_2", "wait_3")]
    assert waits == [Delay(Duration(days=days)) for days in (3, 7, 30)]


def test_dunning_chains_have_internal_names() -> None:
    """Lists of blocks are called after their parent and their place in it."""
    sequence = load(document("payment_dunning"))
    internal = {each for each in sequence.index if each.startswith("@")}
    assert internal == {"@main", "@router.0", "@router.default"}
    router = sequence.index["router"]
    assert isinstance(router, Router)
    assert router.default is not None
    assert [block.id for block in router.default.blocks][:2] == ["wait", "retry_with_backup_method"]


def test_dunning_router_reads_the_charge() -> None:
    """References say whose outputs a block's own expressions read."""
    sequence = load(document("payment_dunning"))
    assert sequence.references["router"] == {"charge_payment_method"}
    assert sequence.references["wait"] == frozenset()


def test_dunning_header_is_the_seeds_form() -> None:
    """In the seed's form the id is the name, and what is left out has its default."""
    sequence = load(document("payment_dunning"))
    assert (sequence.name, sequence.form, sequence.dialect) == (
        "payment_dunning",
        "seed",
        Dialect.SEED,
    )
    assert (sequence.id, sequence.namespace, sequence.tenant) == (None, "default", None)
    assert (sequence.version, sequence.timezone, sequence.input_schema) == (None, "UTC", None)
    assert sequence.handlers == {
        "charge_payment_method",
        "activate_subscription",
        "wait",
        "retry_with_backup_method",
        "send_payment_reminder",
        "downgrade_account",
    }
    assert {each.code.partition(".")[0] for each in sequence.warnings} == {"money"}


def test_charge_has_its_retry_and_its_limit() -> None:
    """`backoff` and the inline rate limit of the seed arrive in the step."""
    charge = step(load(document("payment_dunning")), "charge_payment_method")
    assert charge.retry is not None
    assert (charge.retry.max_attempts, charge.retry.initial.total_seconds()) == (2, 5.0)
    assert [(limit.max, limit.window) for limit in charge.rate_limits] == [(95, 1.0)]
    assert (charge.effect, charge.lane) == (None, None)


def test_invoice_retry_is_seven_steps_in_a_row() -> None:
    """The flat document is one chain in the order it was written."""
    sequence = load(document("invoice_retry"))
    assert [block.id for block in sequence.index.root.chains()] == [
        "charge_payment_method",
        "wait",
        "retry_with_backup_method",
        "wait_2",
        "send_payment_reminder",
        "wait_3",
        "downgrade_account",
    ]


def test_create_instance_is_no_definition() -> None:
    """The seed's third document starts an instance; loaded as a definition it is refused."""
    with pytest.raises(Unprocessable):
        load(document("create_instance"))


@pytest.mark.parametrize("name", ["payment_dunning", "invoice_retry"])
def test_canonical_form_is_a_fixed_point(name: str) -> None:
    """Loading the canonical form gives the canonical form, the same digest and the same blocks."""
    once = load(document(name))
    twice = load(once.canonical)
    assert twice.canonical == once.canonical
    assert twice.sha256 == once.sha256
    assert list(twice.index) == list(once.index)


def test_body_is_kept_as_it_was_given() -> None:
    """What was published comes back unchanged."""
    body = document("payment_dunning")
    sequence = load(body)
    assert sequence.body == document("payment_dunning")
    assert sequence.body is body


def test_digest_ignores_the_version_and_nothing_else() -> None:
    """Publishing the same again is recognised whatever version it carries."""
    body = document("invoice_retry")
    same = load({**body, "version": 7})
    other = load({**body, "timezone": "Europe/Berlin"})
    assert load(body).sha256 == same.sha256 != other.sha256
    assert same.version == 7
