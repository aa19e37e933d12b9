"""derive: the version of one instance's own: its sequence's blocks, and injected ones behind them.

Pure. There is no second way to run a definition: an instance with injected blocks runs by a version
like any other, which nobody finds. Its id is made of what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid5

from orch8.definition import load
from orch8.engine.block import Chain, Index
from orch8.errors import DefinitionRejected, InvalidArgument, Problem, Unprocessable
from orch8.runtime.library import Published, published_of
from orch8.storage.derived import Derived

MAIN: Final = "@main"  # the chain of a sequence's own list of blocks
INJECTED: Final = "_injected_blocks"  # the member of metadata that shows them


@dataclass(frozen=True, slots=True)
class Version:
    """A version to run by, and the row that holds it if it is a derived one."""

    published: Published
    row: Derived | None  # None: it is a published one


def main_of(index: Index) -> Chain:
    """The outermost list of blocks of a definition."""
    main = index[MAIN]
    assert isinstance(main, Chain)
    return main


def injected_of(published: Published) -> list[Any]:
    """The injected blocks of a version, as they were given; none of a published one."""
    blocks = _body(published)["blocks"]
    return list(blocks[len(blocks) - published.injected :])


def derived(published: Published, injected: Sequence[Any]) -> Version:
    """The version with the same blocks of its sequence's own, and these behind them in place of
    those that are there now. Raises InvalidArgument with every problem, its place being that in the
    sequence's whole list.
    """
    body = _body(published)
    own = body["blocks"][: len(body["blocks"]) - published.injected]
    try:
        made = load({**body, "blocks": [*own, *injected]}, lenient=True)
    except (DefinitionRejected, Unprocessable) as refused:
        raise InvalidArgument(refused.detail, errors=refused.errors) from refused
    origin = published.shown_id
    row = Derived(
        id=uuid5(origin, made.sha256.hex()), derived_from=origin, injected=len(injected),
        tenant_id=published.tenant_id, namespace=published.namespace, name=published.name,
        version=published.version, form=made.form,
        body=made.body if made.form == "contract" else made.canonical, sha256=made.sha256,
    )  # fmt: skip
    return Version(published_of(row), row)


def placed(problems: Sequence[Problem], first: int, count: int) -> list[Problem]:
    """The problems of a list's ``count`` blocks from ``first`` on, as problems of these alone;
    others keep their places.
    """
    found = []
    for each in problems:
        _, root, number, *rest = [*each.pointer.split("/"), "", ""]
        inside = root == "blocks" and number.isdecimal() and first <= int(number) < first + count
        if inside:
            rest = [part for part in rest if part]
            pointer = "/".join(["", root, str(int(number) - first), *rest])
            each = replace(each, pointer=pointer)  # noqa: PLW2901 - the same, seen from here
        found.append(replace(each, shape=False))
    return found


def _body(published: Published) -> Mapping[str, Any]:
    """The definition, every block with its id: in the seed's form only the long form has them."""
    sequence = published.sequence
    return sequence.body if sequence.form == "contract" else sequence.canonical
