"""Sequences: publish, find and deprecate them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from orch8.client.answers import Published, Sequence
from orch8.client.caller import Caller
from orch8.client.paths import path
from orch8.client.reading import Page

PAGE: Final = 200


class Sequences:
    """The sequences of one tenant, or of all."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def publish(self, definition: Mapping[str, Any], *, strict: bool = False) -> Published:
        """The definition is published; the same body again is the same version.

        ``strict`` refuses what is legal but may cost money. Raises DefinitionRejected or another
        InvalidArgument, with every problem in ``errors``.
        """
        query = {"strict": "true"} if strict else None
        # A body of the contract's form has an id of its own: 409, and never a second version.
        said = self._caller.ask(
            "POST", "/sequences", dict(definition), query=query, repeatable=True
        )
        return Published.read(said)

    def get(self, sequence: str) -> Sequence:
        """A version by its id, or the newest of a name. Raises NotFound."""
        return Sequence.read(self._caller.ask("GET", path("sequences", sequence)))

    def list(
        self, *, name: str | None = None, namespace: str | None = None, page: int = PAGE
    ) -> Iterator[Sequence]:
        """Every version that fits, by tenant, namespace and name, the newest first."""
        query = {"name": name, "namespace": namespace, "limit": page, "offset": 0}
        while True:
            found = Page.read(self._caller.ask("GET", "/sequences", query=query))
            yield from map(Sequence.read, found.items)
            if not found.has_more:
                return
            query["offset"] = int(query["offset"] or 0) + page

    def deprecate(self, sequence_id: str) -> None:
        """The version's name finds an older one from now on; its instances go on."""
        at = path("sequences", sequence_id, "deprecate")
        self._caller.ask("POST", at, repeatable=True)
