"""The Simulator: sequences on a virtual clock, with scripted handlers, driven by the real core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from orch8.config import Settings
from orch8.definition import load
from orch8.engine.lifecycle import ENDED, StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import CONTEXT
from orch8.errors import (
    AlreadyExists,
    BusinessKeyTaken,
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
)
from orch8.handlers.classify import spoken
from orch8.runtime.answering import answer
from orch8.runtime.identity import correlation_text, holder_of
from orch8.runtime.inputs import LANES, validate
from orch8.runtime.library import Published
from orch8.runtime.retry import again
from orch8.runtime.run import Run
from orch8.runtime.signal import SignalRequest
from orch8.runtime.start import StartRequest, begin
from orch8.runtime.zone import zone_of
from orch8.storage.rows import InstanceRow
from orch8.testing.clock import VirtualClock, aware, span
from orch8.testing.driver import Call, Driver
from orch8.testing.instance import SimInstance
from orch8.testing.scripts import Scripts, SimulationError
from orch8.testing.store import Store, through_json

DAY_ONE: Final = datetime(2026, 1, 1, 9, tzinfo=UTC)  # fixed: a test does not depend on today
ACTOR: Final = "test"
MAX_MOVES: Final = 100_000  # of one run(): a loop that never ends is told, not waited for
DEFAULTS: Final = Settings(handler_url="http://handlers.invalid", key_secret="simulated")  # noqa: S106
_ANSWERABLE: Final = frozenset({StepState.WAITING, StepState.PARKED})


class Simulator:
    """Starts instances of sequences and lets virtual time pass over them.

    ``definition`` is a JSON object or the path of a JSON file. ``handlers`` says what calls come
    to: for each handler a function of StepRequest, a list with one answer per call, or one answer
    for every call. An answer is the output (JSON), an Answer, an exception class or instance of
    `orch8.handlers.python`, or crash(), time_out(), takes(...), http(...). The same ``seed`` gives
    the same ids, keys, jitter and split variants. Rate limits are not simulated.
    """

    def __init__(
        self,
        definition: Mapping[str, Any] | str | Path,
        handlers: Mapping[str, Any] | None = None,
        *,
        now: datetime = DAY_ONE,
        tenant: str = "default",
        seed: int = 0,
        settings: Settings = DEFAULTS,
    ) -> None:
        settings = replace(
            settings,
            handler_url=settings.handler_url or DEFAULTS.handler_url,
            key_secret=settings.key_secret or DEFAULTS.key_secret,
        )
        self.tenant = tenant
        self._clock = VirtualClock(now)
        self._store = Store(self._clock)
        self._scripts = Scripts(
            handlers or {}, self._clock, lease=settings.lease, max_output=settings.max_output
        )
        self._driver = Driver(settings, self._clock, self._store, self._scripts, seed)
        self.name = self.publish(definition)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if error is None:
            self.check_scripts()

    # -- sequences and instances -----------------------------------------------------------------
    def publish(self, definition: Mapping[str, Any] | str | Path) -> str:
        """The definition can be started, also by ``sub_sequence``; its name. Another body under a
        name is its next version. Raises what POST /sequences would refuse it with.
        """
        sequence = load(_read(definition))
        tenant = sequence.tenant or self.tenant
        latest = self._store.named(tenant, sequence.namespace, sequence.name, None)
        if latest is not None and latest.sequence.sha256 == sequence.sha256:
            return sequence.name
        version = sequence.version or (1 if latest is None else latest.version + 1)
        if self._store.named(tenant, sequence.namespace, sequence.name, version) is not None:
            raise AlreadyExists(
                f"version {version} of {sequence.name!r} is published with another body; raise the "
                "version or leave it out"
            )
        published = Published(
            self._driver.chance.new_id(), tenant, sequence.namespace, sequence.name, version,
            sequence=sequence,
        )  # fmt: skip
        self._store.sequences[published.id] = published
        return sequence.name

    def trigger(self, slug: str, sequence: str) -> None:
        """The slug starts instances of the newest version of the sequence, for ``emit_event``."""
        self._find(sequence)
        self._store.triggers.add(slug, sequence)

    def start(
        self,
        context: Mapping[str, Any] | None = None,
        *,
        sequence: str | None = None,
        idempotency_key: str | None = None,
        timezone: str | None = None,
        next_fire_at: datetime | None = None,
    ) -> SimInstance:
        """An instance of the newest version exists; nothing was called yet. A key that was used
        before gives the instance of then; with another request it raises IdempotencyMismatch. So
        does a business key that an instance has, if the sequence says so; else BusinessKeyTaken.
        """
        request = StartRequest(
            sequence=sequence or self.name, tenant_id=self.tenant, idempotency_key=idempotency_key,
            context=through_json(context) or {}, timezone=timezone, next_fire_at=next_fire_at,
            actor=ACTOR,
        )  # fmt: skip
        published = self._find(request.sequence)
        request = replace(request, tenant_id=published.tenant_id)
        earlier = self._earlier(request)
        if earlier is not None:
            return SimInstance(self._driver, earlier.id)
        validate(published, request.context)
        row = InstanceRow(
            id=self._driver.chance.new_id(), tenant_id=request.tenant_id, state="scheduled",
            namespace=published.namespace, sequence_id=published.id, snapshot={"f": {}},
            lane=LANES[request.priority], priority=request.priority,
            timezone=zone_of(published, request.context, self._clock.moment, timezone),
            created_at=self.now, updated_at=self.now, idempotency_key=idempotency_key,
            request_sha256=request.fingerprint(),
        )  # fmt: skip
        run = Run(self._driver.around, row, published, self._clock.moment, created=True)
        run.known.values[CONTEXT] = request.context
        try:
            self._driver.create(run, begin(request))
        except BusinessKeyTaken as taken:
            unique, holder = published.sequence.unique, holder_of(taken)
            if unique is None or not unique.returns_existing or holder is None:
                raise
            return SimInstance(self._driver, holder)
        return SimInstance(self._driver, row.id)

    @property
    def now(self) -> datetime:
        """Virtual time, in UTC."""
        return self._clock.now

    @property
    def instances(self) -> list[SimInstance]:
        """Every instance, children too, in the order in which they were started."""
        return [SimInstance(self._driver, instance_id) for instance_id in self._store.instances]

    def correlated(self, **values: Any) -> list[SimInstance]:
        """The open instances that a signal with these correlations reaches, the newest first."""
        texts = {name: correlation_text(value) or "" for name, value in values.items()}
        found = self._store.correlated(self.tenant, texts)
        return [SimInstance(self._driver, instance_id) for instance_id in found]

    @property
    def calls(self) -> list[Call]:
        """The calls of handlers by all instances, in order."""
        return list(self._driver.calls)

    @property
    def next_due(self) -> datetime | None:
        """When the next thing happens of itself; None when nothing will."""
        return self._driver.next_at()

    # -- time --------------------------------------------------------------------------------------
    def run(self) -> None:
        """Everything that happens of itself has happened, however long that takes on the clock."""
        self._move(lambda: False)

    def run_for(self, duration: Any) -> None:
        """This much time has passed: "5s", {"days": 3}, milliseconds or a timedelta."""
        self.run_until(span(duration).after(self.now, UTC))

    def run_until(self, wanted: datetime | Callable[[], object]) -> None:
        """It is this moment, with everything that was due by then done; or the condition, which is
        asked before each thing that happens, is true.
        """
        if not isinstance(wanted, datetime):
            if not self._move(wanted):
                raise SimulationError(
                    "the condition never became true and nothing more happens of itself:\n"
                    + "\n".join(map(repr, self.instances[:10]))
                )
            return
        until = aware(wanted)
        if until < self.now:
            raise InvalidArgument(f"the clock cannot go back: it is {self.now.isoformat()}")
        self._move(lambda: (self.next_due or until) > until)
        self._clock.move(until)

    def _move(self, stop: Callable[[], object]) -> bool:
        """Whether ``stop`` became true before there was nothing left to happen."""
        for _ in range(MAX_MOVES):
            if stop():
                return True
            if not self._driver.advance():
                return False
        last = ", ".join(f"{call.handler} at {call.at.isoformat()}" for call in self.calls[-3:])
        raise SimulationError(
            f"still running after {MAX_MOVES} moves; is there a loop without an end? "
            f"Last calls: {last or 'none'}"
        )

    # -- what people do ----------------------------------------------------------------------------
    def signal(
        self,
        instance: SimInstance,
        name: str,
        payload: Any = None,
        *,
        dedupe_key: str | None = None,
    ) -> None:
        """An interrupt of the sequence has taken the signal; or it is in the inbox, and a wait for
        it consumes it when time goes on. A repeated ``dedupe_key`` does nothing.
        """
        self._live(instance, "send signal to")
        request = SignalRequest(
            name=name, payload=through_json(payload), actor=ACTOR, dedupe_key=dedupe_key
        )
        self._driver.deliver(instance.id, request)

    def pause(self, instance: SimInstance) -> None:
        """Nothing of the instance is called until it is resumed; calls in flight are answered."""
        self._live(instance, "pause")
        self._driver.control(instance.id, SignalRequest(control="pause", actor=ACTOR))

    def resume(self, instance: SimInstance) -> None:
        """The instance goes on; what became due meanwhile is due now."""
        self._live(instance, "resume")
        self._driver.control(instance.id, SignalRequest(control="resume", actor=ACTOR))

    def cancel(self, instance: SimInstance, *, reason: str | None = None) -> None:
        """The instance is stopping: it ends when calls in flight that may have an effect have
        answered and what is shielded has run.
        """
        self._live(instance, "cancel")
        request = SignalRequest(control="cancel", actor=ACTOR, reason=reason)
        self._driver.control(instance.id, request)

    def retry(self, instance: SimInstance, *, reason: str | None = None) -> None:
        """The failed instance goes on where it failed; what completed is not called again."""
        if instance.state != "failed":
            raise InvalidArgument(
                f"can only retry failed instances, current state: {instance.state}"
            )
        self._driver.change(instance.id, partial(again, actor=ACTOR, reason=reason))

    def update_context(self, instance: SimInstance, data: Mapping[str, Any]) -> None:
        """The members of ``data`` are merged into the instance's ``context.data``."""
        self._live(instance, "update the context of")
        payload = {"data": through_json(data)}
        request = SignalRequest(control="update_context", payload=payload, actor=ACTOR)
        self._driver.control(instance.id, request)

    def answer(self, instance: SimInstance, step: str, result: Any) -> None:
        """The word from outside on a step that is pending or parked: ``result`` is its output, or
        an Answer. ``step`` is its id or node key.
        """
        rows = [row for row in instance.steps if step in (row.node_key, row.block_id)]
        row = next((r for r in reversed(rows) if _answerable(r.state, r.waits_for)), None)
        if row is None:
            states = ", ".join(f"{each.node_key} is {each.state}" for each in rows)
            raise InvalidArgument(
                f"no step {step!r} waits for an answer: {states or 'it was not entered'}"
            )
        evidence = {"source": ACTOR}
        got = result if isinstance(result, Answer) else spoken(through_json(result), evidence)
        work = partial(answer, key=row.key, got=got, actor=ACTOR)
        self._driver.change(instance.id, work)

    def check_scripts(self) -> None:
        """Raises SimulationError if a list of scripted answers was not used up. Leaving a ``with``
        block of the Simulator does the same.
        """
        left = self._scripts.unused()
        if left:
            unused = ", ".join(f"{name}: {count}" for name, count in left.items())
            made = ", ".join(f"{call.handler} ({call.step})" for call in self.calls[-20:])
            raise SimulationError(
                f"scripted answers that no call asked for: {unused}. Calls: {made or 'none'}"
            )

    # -- below -------------------------------------------------------------------------------------
    def _find(self, name: str) -> Published:
        found = self._store.newest(name)
        if found is None:
            known = ", ".join(sorted({each.name for each in self._store.sequences.values()}))
            raise NotFound(f"sequence {name!r}; published: {known}. Use Simulator.publish")
        return found

    def _earlier(self, request: StartRequest) -> InstanceRow | None:
        if request.idempotency_key is None:
            return None
        row = self._store.by_key(request.tenant_id, request.idempotency_key)
        if row is not None and row.request_sha256 != request.fingerprint():
            raise IdempotencyMismatch(
                f"idempotency key {request.idempotency_key!r} was used for instance {row.id} with "
                "a different request"
            )
        return row

    def _live(self, instance: SimInstance, deed: str) -> None:
        if instance.state in ENDED:
            raise InvalidArgument(
                f"cannot {deed} instance {instance.id}: target is in a terminal state "
                f"({instance.state})"
            )


def _read(definition: Mapping[str, Any] | str | Path) -> Any:
    if isinstance(definition, Mapping):
        return through_json(definition)
    path = Path(definition)
    try:
        return orjson.loads(path.read_bytes())
    except OSError as problem:
        raise SimulationError(f"the definition {path} cannot be read: {problem}") from None
    except orjson.JSONDecodeError as problem:
        raise SimulationError(f"the definition {path} is not JSON: {problem}") from None


def _answerable(state: str, waits_for: str | None) -> bool:
    return state in _ANSWERABLE and (state == StepState.PARKED or waits_for == Verdict.PENDING)
