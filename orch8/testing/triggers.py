"""The triggers of a simulation, and which instances were started under dedupe keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from orch8.runtime.elsewhere import Aim
from orch8.runtime.library import Published
from orch8.runtime.triggers import Kind
from orch8.storage.emissions import KEPT_DAYS, Emission
from orch8.testing.clock import VirtualClock


class SimTriggers:
    """What the tables of triggers and emissions hold; ``find`` gives a name's newest version."""

    def __init__(self, clock: VirtualClock, find: Callable[[str], Published | None]) -> None:
        self._clock, self._find = clock, find
        self._names: dict[str, str] = {}
        self._emissions: dict[tuple[str, str, str], Emission] = {}

    def add(self, slug: str, sequence: str) -> None:
        """The slug starts instances of the sequence from now on."""
        self._names[slug] = sequence

    def aim(self, slug: str) -> Aim | None:
        """What the slug would start now."""
        name = self._names.get(slug)
        if name is None:
            return None
        found = self._find(name)
        tenant = "" if found is None else found.tenant_id
        return Aim(slug, tenant, Kind.EVENT.value, True, name, found)

    def first_under(self, tenant_id: str, scope: str, key: str) -> UUID | None:
        """The instance that was started under a key within the last KEPT_DAYS."""
        found = self._emissions.get((tenant_id, scope, key))
        if found is None or found.created_at < self._clock.now - timedelta(days=KEPT_DAYS):
            return None
        return found.instance_id

    def write(self, emissions: Iterable[Emission]) -> None:
        """These instances were started under their keys."""
        for each in emissions:
            self._emissions[each.tenant_id, each.scope, each.key] = each
