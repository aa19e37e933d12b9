"""DURABLE: the built-ins that are carried out inside the transaction that settles them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orch8.runtime import budgets
from orch8.runtime.builtins.answers import human_review, wait_for_event
from orch8.runtime.builtins.children import start_sequence, sub_sequence
from orch8.runtime.builtins.emit import emit_event
from orch8.runtime.builtins.kept import delete_state, get_state, merge_state, set_state
from orch8.runtime.builtins.modify import self_modify
from orch8.runtime.builtins.others import query_instance, send_signal
from orch8.runtime.builtins.signals import wait_signal
from orch8.runtime.builtins.timers import sleep, wait
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

Perform = Callable[[Run, StepRow, Any], None]

DURABLE: Final[Mapping[str, Perform]] = {
    "wait": wait,
    "sleep": sleep,
    "wait_signal": wait_signal,
    "wait_for_event": wait_for_event,
    "human_review": human_review,
    "guard": budgets.guard,
    "set_state": set_state,
    "get_state": get_state,
    "delete_state": delete_state,
    "merge_state": merge_state,
    "emit_event": emit_event,
    "send_signal": send_signal,
    "query_instance": query_instance,
    "sub_sequence": sub_sequence,
    "start_sequence": start_sequence,
    "self_modify": self_modify,
}
