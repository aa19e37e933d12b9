"""The members of a sequence beside its blocks, in the seed's form and in the contract's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from marshmallow import Schema

from orch8.blocks.fields import (
    Anything,
    Blocks,
    Choice,
    Flag,
    Many,
    Object,
    Part,
    Text,
    Whole,
    wrong,
)
from orch8.blocks.interrupt import MOST, SlaSchema
from orch8.blocks.schema import Base
from orch8.definition.identity import UniqueSchema

CONTRACT_MARKS: Final = frozenset({"tenant_id", "namespace", "name", "created_at"})
LONGEST_NAME: Final = 200


class Uuid(Text):
    """A UUID, written as text."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return str(UUID(text))
        except ValueError:
            raise wrong("{name} must be a UUID", shape=True) from None


class Moment(Text):
    """An RFC 3339 timestamp."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            datetime.fromisoformat(text)
        except ValueError:
            hint = 'such as "2026-04-01T00:00:00Z"'
            raise wrong("{name} must be a timestamp", hint, shape=True) from None
        return text


class Name(Text):
    """A name that can stand in a URL."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "/" in text or not text.isprintable() or text != text.strip():
            hint = "use letters, digits, _ and -"
            raise wrong("{name} must be printable, without / and outer spaces", hint)
        return text


class ActionSchema(Base):
    """What an interceptor leaves. Its handler is a name, and is not called."""

    handler = Text(required=True, blank=False)
    params = Anything()


class InterceptorsSchema(Base):
    """Each leaves its params among the outputs (CONTRACT 12.10)."""

    before_step = Part(ActionSchema)
    after_step = Part(ActionSchema)
    on_signal = Part(ActionSchema)
    on_complete = Part(ActionSchema)
    on_failure = Part(ActionSchema)


class HeaderSchema(Base):
    """What both forms share."""

    timezone = Text(blank=False)
    input_schema = Anything()
    blocks = Blocks(required=True, least=1)
    interrupts = Many(Object(), most=MOST)  # read as the blocks are
    unique = Part(UniqueSchema)
    correlation = Object()
    on_failure = Blocks()  # read by hooks.py
    on_cancel = Blocks()
    interceptors = Part(InterceptorsSchema)
    sla = Part(SlaSchema)
    deadline = Object(later="give steps a deadline")
    pii = Object(later="pass references instead of personal data")
    trigger = Object(later="create instances from your own scheduler")
    continue_as_new = Object(later="start the next instance with a last step")


class SeedSchema(HeaderSchema):
    """``{"id": "payment_dunning", "blocks": [...]}``."""

    id = Name(required=True, blank=False, longest=LONGEST_NAME)
    version = Whole(least=1)
    tenant = Text(blank=False, longest=LONGEST_NAME)


class ContractSchema(HeaderSchema):
    """The form of existing clients (CONTRACT 5.1)."""

    id = Uuid(required=True)
    tenant_id = Text(required=True, blank=False, longest=LONGEST_NAME)
    namespace = Text(required=True, blank=False, longest=LONGEST_NAME)
    name = Text(required=True, longest=LONGEST_NAME)
    version = Whole(required=True)
    created_at = Moment(required=True)
    deprecated = Flag()
    status = Choice("draft", "staging", "production", "unpublished")


_SEED, _CONTRACT = SeedSchema(), ContractSchema()


def is_contract(body: Mapping[str, Any]) -> bool:
    """Whether the body is in the contract's form (CONTRACT 38)."""
    return not CONTRACT_MARKS.isdisjoint(body)


def header_schema(*, contract: bool) -> Schema:
    """The schema of the sequence object."""
    return _CONTRACT if contract else _SEED
