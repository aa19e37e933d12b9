"""How long an attempt's key may be sent again, and what is done when it may not. Values only."""

from __future__ import annotations

from orch8.blocks.money import OnUnknown
from orch8.blocks.step import Step
from orch8.config import Settings
from orch8.handlers.builtin import HttpCall
from orch8.handlers.http_request import MAX_TIMEOUT_MS
from orch8.money.presets import preset
from orch8.runtime.routes import Route
from orch8.runtime.ruling import DEFAULT_KEY_TTL, RETRY_SAME_KEY, key_holds
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


def on_unknown(run: Run, row: StepRow) -> OnUnknown:
    """What is done about the step's attempt when its outcome is unknown."""
    return getattr(run.block(row), "on_unknown", None) or RETRY_SAME_KEY


def key_ttl(run: Run, row: StepRow) -> float:
    """For how many seconds the provider surely knows an attempt's key: as the step says, else as
    its provider's preset does, else a day; not at all if it replays nothing.
    """
    block = run.block(row)
    if not isinstance(block, Step):
        return DEFAULT_KEY_TTL
    if block.idempotency.replay == "none":
        return 0.0
    if block.idempotency.ttl is not None:
        return block.idempotency.ttl
    known = preset(block.provider) if block.provider is not None else None
    kept = known.key.ttl if known is not None else None
    return DEFAULT_KEY_TTL if kept is None else kept


def timeout_of(run: Run, row: StepRow) -> float:
    """Seconds after which a dispatch of the step is given up. A function of this process has no
    time-out: of it this is what is expected, and the process that dies ends it.
    """
    block = run.block(row)
    route = run.around.route(row.tenant_id, row.handler)
    return call_time(block if isinstance(block, Step) else None, route, run.around.settings)


def call_time(block: Step | None, route: Route, settings: Settings) -> float:
    """Seconds after which a call that is made by this route for a step is given up."""
    if isinstance(route.builtin, HttpCall):
        stated = block.call_timeout if block is not None else None
        return min(stated or route.builtin.timeout, MAX_TIMEOUT_MS / 1000)
    own = block.timeout if block is not None else None
    return own or route.timeout or settings.handler_timeout


def still_known(run: Run, row: StepRow) -> bool:
    """Whether the provider surely knows the attempt's key if it is sent again now."""
    sent_at = row.first_dispatched_at
    return sent_at is None or key_holds(sent_at, key_ttl(run, row), run.now, timeout_of(run, row))
