"""set_state, get_state, delete_state and merge_state: what an instance keeps under keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.engine.outcome import COMPLETED, Verdict
from orch8.engine.scope import RESERVED, STATE
from orch8.errors import ExpressionError
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

MOST_KEYS: Final = 1000  # that one merge_state may name


def set_state(run: Run, row: StepRow, params: Any) -> None:
    """set_state: the value is kept under its key."""
    key, value = _key(params), params.get("value")
    run.changes.keep_state(run.row.id, key, run.row.tenant_id, value)
    run.known.replace(STATE, {**run.known.get(STATE), key: value})
    run.end(row, COMPLETED, output={"key": key, "value": value}, verdict=Verdict.SUCCEEDED)


def get_state(run: Run, row: StepRow, params: Any) -> None:
    """get_state: what is kept under the key, or null."""
    key = _key(params)
    output = {"key": key, "value": run.known.get(STATE).get(key)}
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


def delete_state(run: Run, row: StepRow, params: Any) -> None:
    """delete_state: nothing is kept under the key."""
    key = _key(params)
    run.changes.forget_state(run.row.id, key)
    run.known.replace(STATE, {k: v for k, v in run.known.get(STATE).items() if k != key})
    run.end(row, COMPLETED, output={"key": key, "deleted": True}, verdict=Verdict.SUCCEEDED)


def merge_state(run: Run, row: StepRow, params: Any) -> None:
    """merge_state: each of the values is kept under its name."""
    values = params.get("values", {}) if isinstance(params, Mapping) else {}
    if not isinstance(values, Mapping) or len(values) > MOST_KEYS:
        raise ExpressionError(
            f"values came to {values!r:.100}; it must be an object of at most {MOST_KEYS} members"
        )
    for key, value in values.items():
        run.changes.keep_state(run.row.id, _usable(key), run.row.tenant_id, value)
    run.known.replace(STATE, {**run.known.get(STATE), **values})
    run.end(row, COMPLETED, output={"merged_keys": list(values)}, verdict=Verdict.SUCCEEDED)


def _key(params: Any) -> str:
    return _usable(params.get("key") if isinstance(params, Mapping) else None)


def _usable(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise ExpressionError(f"key came to {key!r}; it must be a text")
    if key.startswith(RESERVED):
        raise ExpressionError(f"key came to {key!r}; keys that begin with @ are the engine's own")
    return key
