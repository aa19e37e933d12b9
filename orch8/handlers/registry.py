"""The table of built-in handlers: what each is, what it accepts and what runs it.

``pure`` ones are computed in place, ``call`` ones become one HTTP call, and ``durable`` ones are
part of the machine: the runtime implements them and only their parameters are checked here.
Every name that is not in the tables is external; those of MISSING only fail, if nobody answers to
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orch8.blocks.absent import ABSENT
from orch8.handlers import assert_, durable, fail, http_request, log, noop, tool_call, transform
from orch8.handlers.builtin import Builtin, Durable, HttpCall, Pure
from orch8.handlers.missing import missing

HANDLERS: Final[Mapping[str, Builtin]] = MappingProxyType(
    {
        "noop": Pure(noop.check, noop.run),
        "log": Pure(log.check, log.run),
        "fail": Pure(fail.check, fail.run),
        "assert": Pure(assert_.check, assert_.run),
        "transform": Pure(transform.check, transform.run),
        "http_request": HttpCall(
            http_request.check,
            http_request.run,
            http_request.effect,
            http_request.DEFAULT_TIMEOUT_MS / 1000,
        ),
        "tool_call": HttpCall(
            tool_call.check, tool_call.run, tool_call.effect, tool_call.DEFAULT_TIMEOUT_MS / 1000
        ),
        "wait": Durable(durable.check_wait),
        "sleep": Durable(durable.check_sleep),
        "guard": Durable(durable.check_guard),
        "wait_signal": Durable(durable.check_wait_signal),
        "wait_for_event": Durable(durable.check_wait_for_event),
        "human_review": Durable(durable.check_human_review),
        "sub_sequence": Durable(durable.check_sequence),
        "start_sequence": Durable(durable.check_sequence),
        "self_modify": Durable(durable.check_self_modify),
        "set_state": Durable(durable.check_key),
        "get_state": Durable(durable.check_key),
        "delete_state": Durable(durable.check_key),
        "merge_state": Durable(durable.check_values),
        "emit_event": Durable(durable.check_emit),
        "send_signal": Durable(durable.check_signal),
        "query_instance": Durable(durable.check_instance),
    }
)
MISSING: Final[Mapping[str, Pure]] = MappingProxyType({name: missing(name) for name in ABSENT})
