"""What one dispatch of a step says to its handler, whichever way it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from orch8.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One attempt of one step as its handler sees it.

    ``outputs`` holds only the outputs that the step refers to; ``step`` is the node key.
    ``dispatch`` counts the sends of this attempt from 1 and is not part of the body, so that
    every dispatch of an attempt sends the same bytes. ``money`` is what the step says it moves.
    ``attempt`` is there when a read handler is asked what became of another step's attempt.
    """

    handler: str
    instance_id: str
    step: str
    idempotency_key: str
    generation: int = 1
    params: Any = None
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    dispatch: int = 1
    money: Mapping[str, Any] | None = None
    attempt: Mapping[str, Any] | None = None

    def body(self) -> bytes:
        """The request body: equal requests have equal bytes, whatever the order of their members.

        Raises InvalidArgument when a value has no JSON form (an integer beyond 64 bits, a lone
        surrogate).
        """
        body: dict[str, Any] = {
            "context": self.context,
            "params": self.params,
            "outputs": self.outputs,
            "instance_id": self.instance_id,
            "step": self.step,
            "generation": self.generation,
            "idempotency_key": self.idempotency_key,
        }
        if self.money is not None:
            body["money"] = self.money
        if self.attempt is not None:
            body["attempt"] = self.attempt
        try:
            return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:  # orjson.JSONEncodeError is a TypeError
            raise InvalidArgument(
                f"step {self.step}: the request cannot be written as JSON ({error}); "
                "check context, params and outputs for integers beyond 64 bits"
            ) from None

    @classmethod
    def read(cls, handler: str, body: bytes, dispatch: int) -> StepRequest:
        """The request whose body was written as ``body``, to be sent once more byte for byte."""
        given = orjson.loads(body)
        return cls(handler=handler, dispatch=dispatch, **given)
