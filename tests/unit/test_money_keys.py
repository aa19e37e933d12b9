"""Idempotency keys: the same wherever the same effect is meant, and different everywhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from orch8.engine.keys import NodeKey
from orch8.runtime.keys import KeyMaker
from orch8.storage.rows import InstanceRow, StepRow

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORDER = {"idempotency_key": "order-1"}


def key(secret: str = "s" * 32, name: str = "dunning", *, per: bool = False, **more: Any) -> str:
    """The key of a step, from a maker of its own; ``more`` is what its instance or step has."""
    given: dict[str, Any] = {"tenant_id": "acme", "id": uuid4(), "generation": 1, **more}
    node = NodeKey(given.pop("block", "charge"), given.pop("path", ()), given.pop("round", 1))
    instance = InstanceRow(
        given.pop("id"), given["tenant_id"], "default", uuid4(), "running", {"f": {}}, "renewal",
        "normal", "UTC", NOW, NOW, idempotency_key=given.pop("idempotency_key", None),
        fork_id=given.pop("fork_id", None),
    )  # fmt: skip
    step = StepRow(
        instance.id, str(node), uuid4(), given.pop("tenant_id"), node.block_id, "charge", "money",
        "running", "renewal", NOW, path=node.path, round=node.round, **given,
    )  # fmt: skip
    return KeyMaker(secret).key(instance, name, step, per_iteration=per)


def test_key_is_the_same_after_a_restore() -> None:
    """Another process, with another claim of the same attempt, makes the very same key."""
    instance_id = uuid4()
    assert key(id=instance_id) == key(id=instance_id, epoch=7, dispatches=3, crashes=2)


def test_key_follows_the_order_and_not_the_row() -> None:
    """An order that is placed again after a restore is a new row with the keys of the old one."""
    assert key(**ORDER, id=uuid4()) == key(**ORDER, id=uuid4())
    assert key(id=uuid4()) != key(id=uuid4())


OTHER_EFFECTS = {
    "tenant": {"tenant_id": "emca"},
    "sequence": {"name": "renewal"},
    "order": {"idempotency_key": "order-2"},
    "fork": {"fork_id": UUID(int=1)},
    "block": {"block": "refund"},
    "iteration": {"path": (1,)},
    "inner iteration": {"path": (1, 2)},
    "round": {"round": 2},
    "generation": {"generation": 2},
}


@pytest.mark.parametrize("changed", OTHER_EFFECTS)
def test_key_differs_wherever_another_effect_is_meant(changed: str) -> None:
    """Each part of what makes an effect another one makes another key, and no two the same."""
    others = {name: key(**(ORDER | more)) for name, more in OTHER_EFFECTS.items()}
    mine = others.pop(changed)
    assert mine != key(**ORDER)
    assert mine not in others.values()


def test_key_of_an_iteration_outlives_its_attempts() -> None:
    """With the scope iteration a new attempt keeps the key; another item has one of its own."""
    assert key(**ORDER, per=True) == key(**ORDER, per=True, generation=2)
    assert key(**ORDER, per=True) != key(**ORDER, per=True, path=(1,))


def test_key_cannot_be_made_without_the_secret() -> None:
    """Whoever knows all about an instance, and not the secret, comes to other keys."""
    assert key("s" * 32, **ORDER) != key("t" * 32, **ORDER)


def test_key_fits_every_provider() -> None:
    """A version 4 UUID in its usual form: 36 characters, which say nothing."""
    made = key(**ORDER)
    assert str(UUID(made)) == made
    assert UUID(made).version == 4
