"""From JSON to frozen dataclasses: what is known is checked, what is not is kept aside."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from orch8.errors import BadGateway


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Something that the API shows. ``raw`` is all of it, with members that a newer server adds."""

    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, said: Any) -> Self:
        """The answer that a JSON object spells. BadGateway names the member that does not fit."""
        if not isinstance(said, dict):
            raise BadGateway(f"the API did not answer with {cls.__name__}, but with {said!r:.200}")
        given: dict[str, Any] = {}
        for each, hint, needed in _members(cls):
            if each in said:
                given[each] = _value(hint, said[each], f"{cls.__name__}.{each}")
            elif needed:
                raise BadGateway(f"the API's answer has no {each}, which {cls.__name__} needs")
        return cls(raw=said, **given)

    @classmethod
    def read_all(cls, said: Any) -> tuple[Self, ...]:
        """As read, of a JSON list."""
        if not isinstance(said, list):
            raise BadGateway(f"the API did not answer with a list, but with {said!r:.200}")
        return tuple(cls.read(each) for each in said)


@dataclass(frozen=True, kw_only=True)
class Page(Answer):
    """Some of a list; ``next_cursor`` leads to the next ones, where the route has one."""

    items: tuple[Any, ...]
    has_more: bool = False
    next_cursor: str | None = None


def _members(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """The members of a kind of answer: name, type, and whether it has to be there."""
    if kind not in _known:
        hints = get_type_hints(kind)
        _known[kind] = tuple(
            (each.name, hints[each.name], each.default is MISSING)
            for each in fields(kind)
            if each.name != "raw"
        )
    return _known[kind]


_known: dict[Any, tuple[tuple[str, Any, bool], ...]] = {}  # reading types is slow


def _value(hint: Any, said: Any, where: str) -> Any:
    if hint is Any:
        return said
    if get_origin(hint) in {Union, types.UnionType}:
        if said is None:
            return None
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    if get_origin(hint) is tuple and isinstance(said, list):
        return tuple(_value(get_args(hint)[0], each, where) for each in said)
    kind = get_origin(hint) or hint
    if isinstance(kind, type) and issubclass(kind, Answer):
        return kind.read(said)
    if kind is datetime and isinstance(said, str):
        try:
            return datetime.fromisoformat(said)
        except ValueError:
            raise BadGateway(f"{where} is no timestamp: {said!r:.200}") from None
    if kind is float and type(said) is int:
        return float(said)
    # A truth value is an int to Python, but none to JSON.
    if (kind in {Mapping, int} and isinstance(said, bool)) or not isinstance(said, kind):
        raise BadGateway(f"{where} is not as expected: {said!r:.200}")
    return said
