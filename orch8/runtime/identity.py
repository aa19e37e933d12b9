"""identity: an instance's business key and correlations, taken as it starts, given back at its end.

A run asks who has its key before it takes it, so that a conflict is an answer and not a broken
transaction; the unique index decides between two that ask at once (storage/changes.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from orch8.engine.expressions import Template
from orch8.engine.expressions.values import text
from orch8.engine.keys import NodeKey
from orch8.engine.scope import Known, Part
from orch8.errors import BusinessKeyTaken, ExpressionError
from orch8.runtime.sandbox import DRY

if TYPE_CHECKING:
    from orch8.definition.sequence import Unique
    from orch8.runtime.run import Run

LONGEST: Final = 255  # characters of a business key, and of a correlation's value
_HOLDER: Final = "business_key"


def claim(run: Run, known: Known, siblings: Iterable[Run] = ()) -> None:
    """The run, new or going on again, takes its business key, if its sequence has one.

    ``known`` is where the key's holder is loaded; ``siblings`` are other new runs that the same
    transaction writes. Raises BusinessKeyTaken, its ``extra`` naming the holder; ExpressionError
    for a key of which a part is missing.
    """
    unique = run.published.sequence.unique
    if unique is None:
        return
    key, tenant = _rendered(run, unique), run.row.tenant_id
    if run.row.dry_run:  # it takes nothing that a real run may want
        key = f"{DRY}{key}"
    holder = next((each.row.id for each in siblings if _takes(each, key)), None)
    holder = holder or known.get(Part(f"{_HOLDER}:{key}"))
    if holder is None:
        run.changes.business_keys.append((tenant, key, run.row.id, unique.lasting))
    elif holder != run.row.id:
        raise BusinessKeyTaken(
            f"instance {holder} has the business key {key!r}, "
            f"{'for good' if unique.lasting else 'until it ends'}",
            extra={"instance_id": str(holder), "business_key": key},
        )


def holder_key(ref: Part) -> str | None:
    """The business key whose holder is asked for; None if something else is."""
    kind, _, key = ref.name.partition(":")
    return key if kind == _HOLDER else None


def holder_of(problem: BusinessKeyTaken) -> UUID | None:
    """The instance that has the key; None if the key was lost to another at the last moment."""
    given = problem.extra.get("instance_id")
    return None if given is None else UUID(given)


def keep(run: Run) -> None:
    """What is written of a run says under which names it can be reached from now on: an open one
    as its context says, an ended one under none; its key is free again unless it is lasting.
    """
    sequence = run.published.sequence
    if sequence.unique is None and not sequence.correlation:
        return
    changes, row = run.changes, run.row
    ended = row.finished_at is not None
    was_open = not run.created and run.base.finished_at is None
    if sequence.unique is not None and ended and not sequence.unique.lasting:
        changes.business_keys.clear()
        if was_open:
            changes.freed_keys.append(row.id)
    if not sequence.correlation or row.dry_run:  # no message about the real thing is for it
        return
    if not ended and (not was_open or row.context_version != run.base.context_version):
        changes.correlated.append((row.id, row.tenant_id, _correlations(run)))
    elif ended and was_open:
        changes.correlated.append((row.id, row.tenant_id, {}))


def correlation_text(value: Any) -> str | None:
    """How a value is compared: a text as it is, a number or boolean as JSON spells it; None for
    what nothing is correlated by: null, "", objects, lists, and more than LONGEST characters.
    """
    spelled = text(value) if isinstance(value, str | int | float) else ""
    return spelled if 0 < len(spelled) <= LONGEST else None


def _takes(run: Run, key: str) -> bool:
    return any(taken[1] == key for taken in run.changes.business_keys)


def _render(run: Run, template: Template) -> Any:
    return run.scope.render(template, NodeKey(run.index.root.id), None)


def _rendered(run: Run, unique: Unique) -> str:
    for part, written in zip(_render(run, unique.parts), unique.written, strict=True):
        if correlation_text(part) is None:
            raise ExpressionError(
                f"the business key needs {written}: it came to {_shown(part)}, and must be a text "
                f"of 1 to {LONGEST} characters or a number"
            )
    key = text(_render(run, unique.key))
    if len(key) > LONGEST:
        raise ExpressionError(
            f"the business key is {len(key)} characters long; it must have at most {LONGEST}"
        )
    return key


def _correlations(run: Run) -> dict[str, str]:
    """The values by which messages find the run. What cannot be evaluated correlates with nothing:
    a context that a step's answer has changed must not keep that answer from being settled.
    """
    found = {}
    for name, template in run.published.sequence.correlation.items():
        try:
            value = correlation_text(_render(run, template))
        except ExpressionError:
            continue
        if value is not None:
            found[name] = value
    return found


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)[:60]
