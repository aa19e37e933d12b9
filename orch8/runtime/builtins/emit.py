"""emit_event: a step that starts another workflow through a trigger, in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.engine.outcome import COMPLETED, Verdict, failed
from orch8.errors import ExpressionError, Unprocessable
from orch8.runtime.builtins.children import bear
from orch8.runtime.elsewhere import Aim, emitted_part, trigger_part
from orch8.runtime.inputs import LANES, validate
from orch8.runtime.run import Run
from orch8.storage.emissions import EVERYBODY, Emission
from orch8.storage.rows import StepRow
from orch8.storage.transaction import dumps

MAX_DATA: Final = 4 * 1024 * 1024  # bytes (CONTRACT 18)
MAX_KEY: Final = 512  # characters: what Postgres can keep in an index, whatever they are
SOURCE: Final = "emit_event"
PRIORITY: Final = "Normal"
PARENT, TENANT = SCOPES = ("parent", "tenant")


def emit_event(run: Run, row: StepRow, params: Any) -> None:
    """emit_event: an independent instance of the trigger's sequence runs; the earlier one if its
    key was used before.
    """
    given = params if isinstance(params, Mapping) else {}
    slug, data, meta = _slug(given), given.get("data", {}), _meta(given)
    size = _size(data)
    if size > MAX_DATA:
        message = f"emit_event: data too large: {size} bytes, the limit is {MAX_DATA}"
        run.end(row, failed(message, code="too_large"))
        return
    key = _key(run, given)
    run.known.require([trigger_part(slug)] + ([] if key is None else [emitted_part(*key)]))
    aim: Aim | None = run.known.get(trigger_part(slug))
    if aim is None or aim.tenant_id != row.tenant_id:
        run.end(row, failed(f"emit_event: there is no trigger {slug!r}", code="unknown_trigger"))
        return
    if not aim.enabled:
        run.end(row, failed(f"emit_event: trigger {slug!r} is disabled", code="trigger_disabled"))
        return
    earlier = None if key is None else run.known.get(emitted_part(*key))
    if earlier is not None:
        _end(run, row, aim, earlier, deduped=True)
        return
    _emit(run, row, aim, data, meta, key)


def _emit(
    run: Run, row: StepRow, aim: Aim, data: Any, meta: Mapping[str, Any],
    key: tuple[str, str] | None,
) -> None:  # fmt: skip
    if aim.published is None:
        message = f"emit_event: there is no sequence {aim.sequence_name!r}"
        run.end(row, failed(message, code="unknown_sequence"))
        return
    try:
        validate(aim.published, {"data": data, "config": {}})
    except Unprocessable as problem:
        run.end(row, failed(problem.detail, code="invalid_input"))
        return
    mine = str(row.instance_id)
    event = {**meta, "source": SOURCE, "parent_instance_id": mine, "parent_block_id": row.block_id}
    child = bear(
        run, row, aim.published, data, lane=LANES[PRIORITY], priority=PRIORITY,
        metadata={"_trigger": aim.slug, "_trigger_type": aim.kind, "_trigger_event": event},
    )  # fmt: skip
    if child is None:
        return
    if key is not None:
        run.changes.emitted.append(Emission(row.tenant_id, *key, child.id, run.now))
        run.known.replace(emitted_part(*key), child.id)
    _end(run, row, aim, child.id, deduped=child.existing)


def _end(run: Run, row: StepRow, aim: Aim, instance_id: Any, *, deduped: bool) -> None:
    output = {
        "instance_id": str(instance_id), "sequence_name": aim.sequence_name, "deduped": deduped,
    }  # fmt: skip
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


def _slug(given: Mapping[str, Any]) -> str:
    slug = given.get("trigger_slug")
    if not isinstance(slug, str) or not slug.strip():
        raise ExpressionError(
            f"emit_event: trigger_slug came to {slug!r:.100}; it must be the slug of a trigger"
        )
    return slug


def _meta(given: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = given.get("meta")
    if meta is not None and not isinstance(meta, Mapping):
        raise ExpressionError(f"emit_event: meta came to {meta!r:.100}; it must be an object")
    return meta or {}


def _size(data: Any) -> int:
    try:
        return len(dumps(data).encode())
    except TypeError as problem:
        raise ExpressionError(f"emit_event: data cannot be written as JSON: {problem}") from None


def _key(run: Run, given: Mapping[str, Any]) -> tuple[str, str] | None:
    """The scope of the step's dedupe key, and the key; None if it has none."""
    scope, key = given.get("dedupe_scope"), given.get("dedupe_key")
    if scope not in (None, *SCOPES):
        raise ExpressionError(
            f"emit_event: dedupe_scope came to {scope!r:.100}; it must be {' or '.join(SCOPES)}"
        )
    if key is None:
        return None
    text = str(key) if isinstance(key, str | int) and not isinstance(key, bool) else ""
    if not text.strip() or len(text) > MAX_KEY or "\0" in text:
        raise ExpressionError(
            f"emit_event: dedupe_key came to {key!r:.100}; it must be a text of 1 to {MAX_KEY} "
            "characters"
        )
    return EVERYBODY if scope == TENANT else str(run.row.id), text
