"""breakers: a handler that fails again and again is left alone for a while, or replaced.

Each process keeps a view of the breakers that are not plainly closed, and reads it anew about once
a second: while all is well, a step costs a look at an empty table. What an answer says of its
handler is written in the transaction that settles it.

An attempt that may have had its effect is never held up nor handed to another handler: finding out
about it is what its key is for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from orch8.blocks.step import Step
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import Part
from orch8.handlers.registry import HANDLERS
from orch8.runtime.doubts import in_doubt
from orch8.runtime.keys import new_attempt
from orch8.storage import breakers as storage
from orch8.storage.breakers import WAITING, At, Breaker, Felt
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

if TYPE_CHECKING:
    from orch8.runtime.because import Because
    from orch8.runtime.office import Office
    from orch8.runtime.preparing import Task
    from orch8.runtime.run import Run

REFRESH: Final = 1.0  # seconds: how soon every process knows of a handler's trouble
TROUBLED: Final = 0.1  # seconds between two looks while there is some
ALERT: Final = 5.0  # seconds after a failure settled here in which every transaction looks
SLOTS: Final = 1000  # moments of a cooldown at which steps that wait ask again, one after another
MOST_MET: Final = 100_000
PROBE: Final = "probe:"
# What clients see no breaker for (CONTRACT 20), and built-ins that call nobody.
UNTRACKED: Final = frozenset({"human_review", "emit_event", "send_signal", "self_modify"}) | (
    frozenset(HANDLERS) - {"http_request"}
)
_WELL: Final = frozenset({Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION})
_ILL: Final = frozenset(
    {Verdict.FAILED, Verdict.FAILED_SAFE, Verdict.NOT_SENT, Verdict.UNKNOWN}
)  # fmt: skip
_TOO_MANY: Final = 429
_SERVERS_FAULT: Final = 500


class Breakers:
    """What one process knows of breakers; safe to share between threads. Off without a threshold
    or a cooldown.
    """

    def __init__(self, threshold: int = 0, cooldown: float = 0.0) -> None:
        self.threshold, self.cooldown = threshold, cooldown
        self.on = threshold > 0 and cooldown > 0
        self.troubled: Mapping[At, Breaker] = {}
        self._met: set[At] = set()
        self._slots: dict[At, tuple[datetime, int, UUID | None]] = {}
        self._read_at = self._alert_until = float("-inf")

    def refresh(self, tx: Tx, *, now: bool = False) -> None:
        """The view is at most REFRESH seconds old, or as new as can be: ``now``."""
        if not self.on:
            return
        at = time.monotonic()
        lasts = TROUBLED if self.troubled else REFRESH
        if not now and at > self._alert_until and at - self._read_at < lasts:
            return
        found = {(each.tenant_id, each.handler): each for each in storage.troubled(tx)}
        self._slots = {key: slot for key, slot in self._slots.items() if key in found}
        self.troubled, self._read_at = found, at

    def alert(self) -> None:
        """For a while every transaction reads the view anew."""
        self._alert_until = time.monotonic() + ALERT

    def forget(self) -> None:
        """What a transaction wrote may not be there: the next one reads and writes it anew."""
        self._read_at = float("-inf")
        self._met.clear()

    def meet(self, tx: Tx, tasks: Iterable[Task]) -> None:
        """Every handler that is about to be called has a breaker."""
        if not self.on:
            return
        met = self._met
        new = {
            at
            for task in tasks
            if (at := (task.row.tenant_id, task.row.handler)) not in met and task.sends
        }
        if not new:
            return
        tracked = [at for at in new if at[1] not in UNTRACKED]
        if tracked:
            storage.meet(tx, tracked)
        if len(self._met) > MOST_MET:
            self._met.clear()
        self._met |= new

    def open(self, tenant_id: str, handler: str) -> Breaker | None:
        """The breaker of a handler, if it is not closed."""
        found = self.troubled.get((tenant_id, handler))
        return None if found is None or found.opened_at is None else found

    def later(self, row: StepRow, until: datetime) -> datetime:
        """When a step asks again whether it may go: the first one ``until`` then, the others spread
        over one more cooldown, in which the first finds out and wakes them.
        """
        at = (row.tenant_id, row.handler)
        same, place, last = self._slots.get(at, (until, -1, None))
        if row.id != last:  # a transition that lacked values asks once more
            place = place + 1 if same == until else 0
        self._slots[at] = (until, place, row.id)
        return until + timedelta(seconds=self.cooldown * (place % SLOTS) / SLOTS)


def probe_of(row: StepRow) -> Part:
    """Whether a step may be the call that finds out about its handler; `permit` loads it."""
    return Part(f"{PROBE}{row.id}:{row.handler}")


def permit(tx: Tx, run: Run, ref: Part) -> datetime | None:
    """None if the step of ``probe_of`` may call its handler now; else when it is to ask again."""
    _, step_id, handler = ref.name.split(":", 2)
    again_at = run.now + timedelta(seconds=run.around.breakers.cooldown)
    return storage.take_probe(tx, run.row.tenant_id, handler, UUID(step_id), run.now, again_at)


# -- what answers say ----------------------------------------------------------------------------
def note(run: Run, row: StepRow, got: Answer) -> None:
    """What the answer to a step's own call says of its handler is kept. A decline is a handler at
    work. Of a request that is refused, of one that is too many, and of a call that goes on, nothing
    can be said either way.
    """
    breakers = run.around.breakers
    if got.verdict is Verdict.SUCCEEDED and not breakers.troubled and row.worker is None:
        return  # nearly always
    if not breakers.on:
        return
    well = got.verdict in _WELL
    if row.handler in UNTRACKED or not row.dispatches:
        return
    if not well and _is_ill(got):
        breakers.alert()
        _felt(run, row, well=False)
    # A pull worker's process may have heard of no failure yet: it closes the breaker in any case.
    elif row.worker is not None or (row.tenant_id, row.handler) in breakers.troubled:
        _felt(run, row, well=True if well else None)


def unsent(run: Run, row: StepRow) -> None:
    """A call that was let through has not been made: if it was to find out, another may."""
    if (row.tenant_id, row.handler) in run.around.breakers.troubled:
        _felt(run, row, well=None)


def _is_ill(got: Answer) -> bool:
    status = got.evidence.get("http_status") or (got.error or {}).get("status")
    if status == _TOO_MANY:
        return False
    if got.verdict is Verdict.REFUSED:
        return isinstance(status, int) and status >= _SERVERS_FAULT
    return got.verdict in _ILL


def _felt(run: Run, row: StepRow, *, well: bool | None) -> None:
    breakers = run.around.breakers
    run.changes.felt.append(
        Felt(
            row.tenant_id, row.handler, row.id, well, run.now, breakers.threshold,
            breakers.cooldown,
        )
    )  # fmt: skip


def reset(office: Office, tx: Tx, tenant_id: str, handler: str, because: Because) -> None:
    """The breaker of a handler is closed, if it has one; what waited for it is due at once."""
    before = storage.read(tx, tenant_id, handler)
    if before is None:
        return
    storage.close(tx, tenant_id, handler)
    body = {"handler": handler, "from_state": before.state, "failures": before.failure_count}
    because.note(tx, tenant_id, "breaker.reset", body)
    office.breakers.alert()


# -- who may go ----------------------------------------------------------------------------------
def held_until(run: Run, row: StepRow, due: datetime) -> datetime | None:
    """Until when a step that is due then is held up by the breaker of its handler, as far as this
    process knows; None: it is not. When its time comes, `held_up` is asked.
    """
    breakers = run.around.breakers
    if not breakers.troubled or row.asking is not None or in_doubt(row):
        return None
    found = breakers.open(row.tenant_id, row.handler)
    if found is None or found.retry_at is None or found.retry_at <= due:
        return None
    return breakers.later(row, found.retry_at)


def fall_back(run: Run, row: StepRow) -> bool:
    """Whether the step calls another handler from now on: its fallback, or its own again, whichever
    may be called. What was sent of the attempt had surely no effect; it is given up for a new one.
    """
    block = run.index[row.block_id]
    if not isinstance(block, Step) or block.fallback is None:
        return False
    fallback = block.fallback.handler
    other = block.handler if row.handler == fallback else fallback
    if run.around.breakers.open(row.tenant_id, other) is not None:
        return False
    before, row.handler = row.handler, other
    if row.first_dispatched_at is not None:
        new_attempt(row)
        row.progress.pop("previous_key")  # a key of the step's own may be the same elsewhere
    row.waits_for = row.worker = None
    run.audit(
        "step.fell_back", "success", row,
        reason=f"{other} is called: the circuit breaker of {before} is open"[:500],
    )  # fmt: skip
    return True


def held_up(run: Run, row: StepRow) -> datetime | None:
    """As held_until, of a step that is due; when the time has come, one is let through to find out
    about the handler.
    """
    breakers = run.around.breakers
    if not breakers.troubled and row.waits_for != WAITING:
        return None
    until = held_until(run, row, run.now)
    found = breakers.open(row.tenant_id, row.handler)
    if until is None and found is not None and row.asking is None and not in_doubt(row):
        again_at: datetime | None = run.known.get(probe_of(row))
        until = None if again_at is None else breakers.later(row, again_at)
    if until is None and row.waits_for == WAITING:
        row.waits_for = None
    return until


def note_wait(run: Run, row: StepRow) -> None:
    """The audit log tells that the step waits, the first time."""
    if row.waits_for != WAITING:
        run.audit(
            "step.deferred", "deferred", row,
            reason=f"the circuit breaker of {row.handler} is open"[:500],
        )  # fmt: skip
