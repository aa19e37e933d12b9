"""The crew: it makes the calls, as many at a time as are put in, and hands in what came of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

import structlog

from orch8.config import Settings
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Orch8Error
from orch8.handlers import python
from orch8.handlers.builtin import CallSite, HttpCall
from orch8.handlers.classify import classifier
from orch8.handlers.exchange import Exchange
from orch8.handlers.http import LATE, Call
from orch8.handlers.wire import build_push
from orch8.limits import Grant
from orch8.runtime.preparing import Task
from orch8.runtime.routes import Kind
from orch8.runtime.settle import Deferral, Item

log = structlog.get_logger(__name__)

_OVER_HTTP = frozenset({Kind.HTTP, Kind.PUSH})
SendTask = Callable[[Task], None]  # hands a step to the user's own Celery application


class Crew:
    """Makes calls: over HTTP all of them in one thread, anything else in threads of its own, up to
    ``width``. Whatever happens to a call, exactly one Item is handed in for it.
    """

    def __init__(
        self,
        settings: Settings,
        hand_in: Callable[[Item, Grant | None], None],
        send_task: SendTask | None,
    ) -> None:
        self._settings, self._hand_in, self._send_task = settings, hand_in, send_task
        self._exchange = Exchange()
        self._secrets = tuple(s for s in settings.handler_secret.split() if s)
        self._calls: SimpleQueue[tuple[Task, Grant | None, float] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._width = 0

    def start(self, width: int) -> None:
        """Up to ``width`` calls that are not HTTP may be made at a time."""
        self._width = width

    def put(self, task: Task, grant: Grant | None, sends_until: float) -> None:
        """The call will be made at once, or, if it is not HTTP, by the next free thread; unless
        ``sends_until`` (time.monotonic) or its grant have passed by then: then it is handed in
        unsent.
        """
        if task.route.kind not in _OVER_HTTP:
            self._calls.put((task, grant, sends_until))
            if len(self._threads) < self._width:
                self._one_more()
            return
        until = _until(grant, sends_until)

        def done(came: Answer) -> None:
            late = came.verdict is Verdict.NOT_SENT and (came.error or {}).get("code") == LATE
            self._hand_in(Item(task, Deferral() if late else came), grant)

        self._exchange.put(partial(self._call, task, until), done)

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
            task, grant, sends_until = work
            try:
                came = self._dispatch(task, _until(grant, sends_until))
            except Exception as problem:
                log.exception("call.broke", step_id=str(task.row.id))
                error = {"message": f"{type(problem).__name__}: {problem}", "code": "engine"}
                came = Answer(Verdict.UNKNOWN, error=error)
            self._hand_in(Item(task, came), grant)

    def _dispatch(self, task: Task, until: float) -> Answer | Deferral:
        if time.monotonic() >= until:
            return Deferral()
        request = task.request
        assert request is not None
        if task.route.kind is Kind.CELERY:
            return self._hand_over(task)
        function = python.FUNCTIONS[request.handler]
        return python.run(
            function, request, effect=task.effect, max_output=self._settings.max_output
        )

    def _call(self, task: Task, until: float) -> Call | Answer:
        request, route, settings = task.request, task.route, self._settings
        assert request is not None
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
            task.body,
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
