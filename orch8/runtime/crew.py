"""The crew: it makes the calls, as many at a time as are put in, and hands in what came of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import structlog

from orch8.config import Settings
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import CredentialUnusable, Orch8Error, Unavailable
from orch8.handlers import python
from orch8.handlers.builtin import CallSite, HttpCall
from orch8.handlers.classify import classifier
from orch8.handlers.exchange import Exchange
from orch8.handlers.http import LATE, Call
from orch8.handlers.request import StepRequest
from orch8.handlers.wire import build_push
from orch8.limits import Grant
from orch8.runtime.preparing import Task
from orch8.runtime.reveal import Revealed, no_vault, scrubbed, unusable
from orch8.runtime.routes import Kind
from orch8.runtime.settle import Deferral, Item

log = structlog.get_logger(__name__)

AWAY = 1.0  # seconds after which a call is tried again whose secrets could not be read

_OVER_HTTP = frozenset({Kind.HTTP, Kind.PUSH})
SendTask = Callable[[Task], None]  # hands a step to the user's own Celery application
Reveal = Callable[[Task], Revealed]


class Crew:
    """Makes calls: over HTTP in one thread for all of them; what may hold a thread up has up to
    ``width`` threads of its own. Whatever happens to a call, exactly one Item is handed in for it,
    and ``timed`` is told how many seconds it took if it was made.
    """

    def __init__(
        self,
        settings: Settings,
        hand_in: Callable[[Item, Grant | None], None],
        send_task: SendTask | None,
        reveal: Reveal = no_vault,
        timed: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._settings, self._hand_in, self._send_task = settings, hand_in, send_task
        self._reveal, self._timed = reveal, timed
        self._exchange = Exchange()
        self._secrets = tuple(s for s in settings.handler_secret.split() if s)
        self._calls: SimpleQueue[tuple[Task, Grant | None, float] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._width = 0

    def start(self, width: int) -> None:
        """Calls can be made, those that hold a thread up by up to ``width`` threads."""
        self._width = width
        self._exchange.start()

    def put(self, task: Task, grant: Grant | None, sends_until: float) -> None:
        """The call will be made at once, or by the next free thread, unless ``sends_until``
        (time.monotonic) or its grant have passed by then: then it is handed in unsent.
        """
        until = _until(grant, sends_until)
        if task.references or task.route.kind not in _OVER_HTTP:
            self._calls.put((task, grant, until))
            if len(self._threads) < self._width:
                self._one_more()
            return
        assert task.request is not None
        began = time.perf_counter()
        self._exchange.put(
            partial(self._call, task, task.request, task.body, until),
            lambda came: self._came(Item(task, _unless_late(came)), grant, began),
        )

    def dismiss(self) -> None:
        """The threads end after the calls that they are making."""
        self._exchange.close()
        for _ in self._threads:
            self._calls.put(None)

    def _one_more(self) -> None:
        thread = threading.Thread(target=self._serve, name="orch8-caller", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            task, grant, until = work
            began = time.perf_counter()
            try:
                came = self._dispatch(task, until)
            except Exception as problem:
                log.exception("call.broke", step_id=str(task.row.id))
                error = {"message": f"{type(problem).__name__}: {problem}", "code": "engine"}
                came = Answer(Verdict.UNKNOWN, error=error)
            self._came(Item(task, came), grant, began)

    def _came(self, item: Item, grant: Grant | None, began: float) -> None:
        if isinstance(item.came, Answer):
            self._timed(time.perf_counter() - began)
        self._hand_in(item, grant)

    def _dispatch(self, task: Task, until: float) -> Answer | Deferral:
        assert task.request is not None
        # A message to a broker keeps its references: there it would lie in the clear.
        if task.references and task.route.kind is not Kind.CELERY:
            return self._with_secrets(task, task.request, until)
        return self._made(task, task.request, task.body, until)

    def _with_secrets(self, task: Task, request: StepRequest, until: float) -> Answer | Deferral:
        """The call is made with the secrets that it refers to, which are cut out of its answer."""
        try:
            revealed = self._reveal(task)
        except CredentialUnusable as problem:
            return unusable(task, problem)
        except Unavailable as problem:
            log.warning("credentials.away", error=problem.detail)
            return Deferral(AWAY)
        whole = replace(request, params=revealed.params)
        try:
            came = self._made(task, whole, whole.body(), until)
        except Exception as problem:  # noqa: BLE001 -- told without its text, which may quote a secret
            raise RuntimeError(f"{type(problem).__name__} in a call with credentials") from None
        return came if isinstance(came, Deferral) else scrubbed(came, revealed.secrets)

    def _made(
        self, task: Task, request: StepRequest, body: bytes, until: float
    ) -> Answer | Deferral:
        if time.monotonic() >= until:
            return Deferral()
        kind = task.route.kind
        if kind is Kind.PYTHON:
            function = python.FUNCTIONS[request.handler]
            return python.run(
                function, request, effect=task.effect, max_output=self._settings.max_output
            )
        if kind is Kind.CELERY:
            return self._hand_over(task)
        call = self._call(task, request, body, until)
        return call if isinstance(call, Answer) else _unless_late(self._exchange.call(call))

    def _call(self, task: Task, request: StepRequest, body: bytes, until: float) -> Call | Answer:
        route, settings = task.route, self._settings
        classify = classifier(task.provider, task.outcome_map)
        if route.kind is Kind.HTTP:
            builtin = route.builtin
            assert isinstance(builtin, HttpCall)
            site = CallSite(
                request.idempotency_key,
                settings.handler_connect_timeout,
                settings.max_output,
                route.guard,
                until,
                task.key_header,
                classify if task.provider or task.outcome_map else None,
            )
            params: Any = request.params
            return builtin.run(params if isinstance(params, dict) else {}, site)
        assert route.url is not None
        return build_push(
            route.url,
            request.handler,
            body,
            idempotency_key=request.idempotency_key,
            dispatch=request.dispatch,
            timeout=task.timeout,
            connect_timeout=min(settings.handler_connect_timeout, task.timeout),
            max_response=settings.max_output,
            secrets=self._secrets,
            guard=route.guard,
            not_after=until,
            key_header=task.key_header,
            classify=classify,
        )

    def _hand_over(self, task: Task) -> Answer:
        if self._send_task is None:
            error = {"message": "this process sends no Celery tasks", "code": "no_celery"}
            return Answer(Verdict.NOT_SENT, error=error)
        try:
            self._send_task(task)
        except Orch8Error as problem:
            return Answer(Verdict.UNKNOWN, error={"message": problem.detail, "code": problem.code})
        return Answer(Verdict.PENDING)


def _until(grant: Grant | None, sends_until: float) -> float:
    """When (time.monotonic) a call must have left. The slack of its grant covers the way to the
    provider's door: half of it until the request leaves, half for the road.
    """
    return sends_until if grant is None else min(sends_until, grant.granted_at + grant.slack / 2)


def _unless_late(came: Answer) -> Answer | Deferral:
    """The answer; or, if the call could only have left too late, that it goes back unsent."""
    late = came.verdict is Verdict.NOT_SENT and (came.error or {}).get("code") == LATE
    return Deferral() if late else came
