"""correlate: a signal to every open instance that a message is about, by names and values.

Each instance is signalled in a transaction of its own: one lock at a time, so that a thousand
instances are never held while one of them is being settled. A sender that was interrupted sends
the same again: with a dedupe_key, those that were reached already take no notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from orch8.engine.lifecycle import ENDED
from orch8.errors import Conflict, InvalidArgument, NotFound, Problem
from orch8.runtime.office import Office
from orch8.runtime.signal import SignalRequest, signal
from orch8.storage import identities, instances

MOST: Final = 1000  # instances that one message may reach


class IfMany(StrEnum):
    """What to do when more than one instance matches."""

    ALL = "all"
    NEWEST = "newest"  # the one that was created last
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Reached:
    """An instance that has the signal in its inbox, and the lane whose workers have to look."""

    instance_id: UUID
    signal_id: UUID
    lane: str


@dataclass(frozen=True, slots=True)
class Correlated:
    """How many open instances matched, and those of them that were signalled."""

    matched: int
    reached: tuple[Reached, ...]


def correlate(
    office: Office,
    values: Mapping[str, str],
    request: SignalRequest,
    *,
    tenant_id: str,
    if_many: IfMany = IfMany.ALL,
    required: bool = False,
) -> Correlated:
    """The open instances of the tenant that have all of these values have the signal; one that
    ended meanwhile has not. Raises NotFound for ``required`` and none, Conflict for several with
    IfMany.ERROR, InvalidArgument for more than MOST; then no instance has it.
    """
    with office.begin() as tx:
        found = identities.correlated(tx, tenant_id, values, MOST + 1)
    named = ", ".join(f"{name} = {value!r}" for name, value in values.items())[:300]
    if len(found) > MOST and if_many is not IfMany.NEWEST:
        raise InvalidArgument(
            f"more than {MOST} open instances have {named}; correlate by more names",
            errors=[Problem("/correlate", f"matches more than {MOST} instances", "add a name")],
        )
    if len(found) > 1 and if_many is IfMany.ERROR:
        some = ", ".join(str(each) for each in found[:3])
        raise Conflict(
            f"{len(found)} open instances have {named}, and if_many is error; the newest: {some}"
        )
    wanted = found[:1] if if_many is IfMany.NEWEST else found
    sent = [_send(office, instance_id, request, tenant_id) for instance_id in wanted]
    reached = tuple(each for each in sent if each is not None)
    if required and not reached:
        raise NotFound(f"no open instance has {named}, and if_none is error")
    return Correlated(len(found), reached)


def _send(
    office: Office, instance_id: UUID, request: SignalRequest, tenant_id: str
) -> Reached | None:
    with office.begin() as tx:
        row = instances.lock_instances(tx, [instance_id])[0].get(instance_id)
        if row is None or row.state in ENDED:  # since it was looked for
            return None
        signal_id = signal(office, tx, instance_id, request, tenant_id=tenant_id)
    return Reached(instance_id, signal_id, row.lane)
