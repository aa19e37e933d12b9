"""The time zone of a new instance: what the request says, else what its sequence says of it."""

from __future__ import annotations

import re
from typing import Any, Final

from orch8.blocks.local import zone_named
from orch8.engine.keys import NodeKey
from orch8.engine.scope import CONTEXT, Known, Scope
from orch8.errors import ExpressionError, InvalidArgument, Problem
from orch8.runtime.library import Published
from orch8.storage.rows import Moment

_MEMBER: Final = re.compile(r"\bcontext((?:\.\w+)+)")


def zone_of(published: Published, context: Any, moment: Moment, asked: str | None = None) -> str:
    """The IANA name of the zone in which an instance with this context counts days; UTC if its
    sequence reads it from the context and finds null.

    InvalidArgument, naming the member of the context, if that holds no such name.
    """
    sequence = published.sequence
    if asked or sequence.zone is None:
        return asked or sequence.timezone
    known = Known({CONTEXT: context}, complete=True)
    scope = Scope(sequence.index, "", known, moment.at, lambda: 0.0, lambda _: {})
    try:
        name = scope.render(sequence.zone, NodeKey(sequence.index.root.id), None)
    except ExpressionError as problem:
        raise _refused(sequence.timezone, problem.detail) from None
    if name is None:
        return "UTC"
    if not isinstance(name, str) or zone_named(name) is None:
        raise _refused(sequence.timezone, f"{str(name)[:60]!r} is no time zone")
    return name


def _refused(source: str, reason: str) -> InvalidArgument:
    found = _MEMBER.search(source)
    pointer = "/context" + found[1].replace(".", "/") if found else "/timezone"
    return InvalidArgument(
        f"the sequence takes its timezone from {source}: {reason}",
        errors=[Problem(pointer, reason, "use an IANA name such as Europe/Vienna")],
    )
