"""The members that block schemas are made of: strict JSON types with messages that say what to do.

A wrong type is a problem of shape, a wrong value one of meaning. Optional members may be null,
which is the same as leaving them out.
"""

# ruff: noqa: RUF012 - marshmallow declares error messages as instance variables

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from orch8.engine.duration import Duration, parse_duration
from orch8.errors import Problem

LARGEST = 2**31 - 1
NAME = "{name}"  # stands for the member's name in messages

_COMMON: dict[str, Any] = {
    "required": "is required",
    "null": "is required",
    "validator_failed": "is not valid",
}


def wrong(
    message: str, hint: str = "", *, at: str = "", code: str = "invalid", shape: bool = False
) -> ValidationError:
    """The error for a member; ``{name}`` in the message becomes its name, ``at`` points into it."""
    return ValidationError([Problem(at, message, hint, code, shape)])


class _Member(fields.Field[Any]):
    """What all members share: optional unless said otherwise, and perhaps of a later version."""

    def __init__(self, *, required: bool = False, later: str = "", **more: Any) -> None:
        super().__init__(
            required=required, allow_none=not required, metadata={"later": later}, **more
        )


class Text(_Member, fields.String):
    """A string; with ``blank=False`` it says something, ``printable`` has no control characters."""

    default_error_messages = {**_COMMON, "invalid": "must be a string"}

    def __init__(
        self, *, blank: bool = True, printable: bool = False, longest: int = 65_536, **more: Any
    ) -> None:
        super().__init__(**more)
        self.blank, self.printable, self.longest = blank, printable, longest

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if not self.blank and not value.strip():
            raise wrong(f"{NAME} must not be blank")
        if len(value) > self.longest:
            raise wrong(f"{NAME} must not be longer than {self.longest} characters")
        if self.printable and not value.isprintable():
            raise wrong(f"{NAME} must be printable", "leave out control characters")
        return value


class Choice(Text):
    """One of a few words."""

    def __init__(self, *words: str, **more: Any) -> None:
        super().__init__(**more)
        self.words = words

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text not in self.words:
            raise wrong(
                f"{NAME} must not be {text[:60]!r}",
                f"use one of {', '.join(self.words)}",
                shape=True,
            )
        return text


class Whole(_Member, fields.Integer):
    """A whole number within bounds; 1.0 and true are none."""

    default_error_messages = {**_COMMON, "invalid": "must be a whole number"}

    def __init__(self, *, least: int = 0, most: int = LARGEST, **more: Any) -> None:
        super().__init__(**more)
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid")
        if value < self.least:
            bound = "> 0" if self.least == 1 else f">= {self.least}"
            raise wrong(f"{NAME} must be {bound}")
        if value > self.most:
            raise wrong(f"{NAME} must be <= {self.most}")
        return value


class Positive(_Member, fields.Float):
    """A number above zero, whole or not."""

    default_error_messages = {**_COMMON, "invalid": "must be a number"}

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid")
        if not 0 < value <= LARGEST:
            raise wrong(f"{NAME} must be > 0 and <= {LARGEST}")
        return float(value)


class Flag(_Member, fields.Boolean):
    """true or false, nothing that looks like it."""

    default_error_messages = {**_COMMON, "invalid": "must be true or false"}

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Anything(_Member, fields.Raw):
    """Any JSON value, taken as it is."""

    default_error_messages = _COMMON


class Object(_Member, fields.Raw):
    """A JSON object, taken as it is."""

    default_error_messages = {**_COMMON, "invalid": "must be an object"}

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        return value


class Many(_Member, fields.List[Any]):
    """A list of members of one kind; ``least`` to ``most`` of them."""

    default_error_messages = {**_COMMON, "invalid": "must be a list"}

    def __init__(self, kind: Any, *, least: int = 0, most: int = 10_000, **more: Any) -> None:
        super().__init__(cls_or_instance=kind, **more)
        self.inner.allow_none = False
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        check_count(value, self.least, self.most)
        result, errors = [], {}
        for index, each in enumerate(value):
            try:
                result.append(self.inner.deserialize(each, **kwargs))
            except ValidationError as error:
                # A wrong entry keeps its place, so that the others keep their pointers.
                errors[index] = error.messages
                result.append(error.valid_data)
        if errors:
            raise ValidationError(errors, valid_data=result)
        return result


class Part(_Member, fields.Nested):
    """An object with a schema of its own."""

    default_error_messages = {**_COMMON, "type": "must be an object"}

    def __init__(self, schema: type[Schema], **more: Any) -> None:
        super().__init__(nested=schema, unknown=EXCLUDE, **more)

    def _deserialize(
        self, value: Any, attr: Any, data: Any, partial: Any = None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, dict):
            raise self.make_error("type")
        return super()._deserialize(value, attr, data, partial, **kwargs)


class Span(_Member, fields.Raw):
    """A duration in any spelling; ``fixed`` ones have no months, so that they are seconds."""

    default_error_messages = _COMMON

    def __init__(self, *, fixed: bool = False, positive: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.fixed, self.positive = fixed, positive

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Duration:
        if isinstance(value, dict) and not value.keys().isdisjoint(("business_days", "calendar")):
            raise wrong(
                f"{NAME} counts business days, which is not supported yet",
                "count days; a step's delay can have business_days_only",
                code="not_yet",
            )
        try:
            duration = parse_duration(value)
        except (ValueError, OverflowError) as error:
            raise wrong(f"{NAME}: {error}", shape=True) from None
        if self.fixed and duration.months:
            raise wrong(f"{NAME} must not count months", "a month has no fixed length: use days")
        if self.positive and duration == Duration():
            raise wrong(f"{NAME} must be longer than nothing")
        return duration


class Blocks(_Member, fields.Raw):
    """Blocks one after another, left as they are: they are walked later, without recursion."""

    default_error_messages = {**_COMMON, "invalid": "must be a list of blocks"}

    def __init__(self, *, least: int = 0, single: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.least, self.single = least, single

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if self.single and isinstance(value, dict):
            return [value]
        if not isinstance(value, list):
            raise self.make_error("invalid")
        check_count(value, self.least, LARGEST)
        return value


class Known(Object):
    """A JSON object whose members are read elsewhere; only their names are known here."""

    def __init__(self, names: Iterable[str], **more: Any) -> None:
        super().__init__(**more)
        self.names = frozenset(names)


def check_count(items: Sized, least: int, most: int) -> None:
    """Nothing, or a ValidationError when there are fewer or more of them than allowed."""
    count = len(items)
    if count < least:
        few = "must not be empty" if least == 1 else f"needs at least {least} entries"
        raise wrong(f"{NAME} {few}")
    if count > most:
        raise wrong(f"{NAME} must not have more than {most} entries")


def flatten(messages: Mapping[Any, Any], pointer: str = "") -> Iterable[Problem]:
    """The problems in marshmallow's nested messages, each with its JSON Pointer."""
    for key, below in messages.items():
        at = pointer if key == "_schema" else f"{pointer}/{escape(str(key))}"
        if isinstance(below, Mapping):
            yield from flatten(below, at)
            continue
        name = f"entry {key}" if isinstance(key, int) else str(key)
        for each in below:
            if isinstance(each, Problem):
                message = each.message.replace(NAME, name)
                yield Problem(at + each.pointer, message, each.hint, each.code, each.shape)
            else:
                yield Problem(at, f"{name} {each}", shape=True)


def escape(name: str) -> str:
    """A member's name as JSON Pointers spell it (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
