"""Small definitions for tests, and how they were refused."""

from __future__ import annotations

from typing import Any

from orch8.blocks.step import Step
from orch8.definition import Sequence, load
from orch8.engine.block import Block
from orch8.errors import DefinitionRejected, Problem, Unprocessable

CHARGE = {"type": "step", "handler": "charge"}
CONTRACT = {
    "id": "6f1d3c3e-0b5e-4b53-9d5e-2f6f0c1a7a10",
    "tenant_id": "acme",
    "namespace": "billing",
    "name": "dunning",
    "version": 3,
    "created_at": "2026-01-01T00:00:00Z",
}


def seed(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A definition in the seed's form."""
    return {"id": "t", **members, "blocks": list(blocks)}


def contract(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    return {**CONTRACT, **members, "blocks": list(blocks)}


def loaded(*blocks: Any, **members: Any) -> Sequence:
    """The sequence of these blocks in the seed's form."""
    return load(seed(*blocks, **members))


def only(block: dict[str, Any]) -> Block:
    """The block that this JSON becomes by itself."""
    return next(iter(loaded(block).index.root.chains()))


def step(**members: Any) -> Step:
    """The step that ``charge`` with these members becomes."""
    block = only({**CHARGE, **members})
    assert isinstance(block, Step)
    return block


def refusal(body: Any, **options: Any) -> tuple[int, list[Problem]]:
    """The HTTP status and the problems with which ``body`` is refused."""
    try:
        load(body, **options)
    except (DefinitionRejected, Unprocessable) as error:
        assert error.errors  # noqa: PT017 - the caller looks at them
        return error.http_status, list(error.errors)
    message = "it was accepted"
    raise AssertionError(message)
