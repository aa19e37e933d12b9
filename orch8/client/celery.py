"""Steps as tasks of your own Celery application: ``"handler": "celery:billing.charge"``.

    app = Celery("billing", broker=...)
    orch8.client.celery.install(app, url="http://127.0.0.1:8080")

    @app.task(name="billing.charge")
    def charge(context, params, outputs, idempotency_key): ...

What the task returns is the step's output. It raises Declined, Refused or TryAgain of
``orch8.client`` to say what surely happened; any other exception says nothing about the effect,
so the step's outcome is unknown and orch8 sends it again with the same idempotency key. A Celery
retry is no end: orch8 hears of the last try only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from orch8.client.caller import Caller
from orch8.client.reports import PATIENCE, TIMEOUT, Dispatch, Reports

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

STEP_HEADER: Final = "orch8_step_id"
EPOCH_HEADER: Final = "orch8_epoch"
MAX_WORKER_ID: Final = 200
BRIEFLY: Final = 5.0  # seconds: what the worker's main loop can spare for a report


def install(
    app: Celery,
    *,
    url: str,
    api_key: str | None = None,
    tenant: str | None = None,
    patience: float = PATIENCE,
) -> None:
    """The end of every task of ``app`` that orch8 sent is told to the API at ``url``.

    A report is tried again for ``patience`` seconds, in the process that ran the task. Installing
    again replaces the former. Raises ConfigurationError for a url that is none.
    """
    from celery import signals  # noqa: PLC0415 - this package is imported without Celery, too

    caller = Caller(url, api_key=api_key, tenant=tenant, timeout=TIMEOUT)
    desk = _Desk(app, Reports(caller, patience))
    for signal, receiver in (
        (signals.task_success, desk.succeeded),
        (signals.task_failure, desk.failed),
        (signals.task_revoked, desk.revoked),
        (signals.task_unknown, desk.unknown),
    ):
        name = f"orch8.client {id(app)}"
        signal.disconnect(dispatch_uid=name)
        signal.connect(receiver, weak=False, dispatch_uid=name)


class _Desk:
    """Turns Celery's signals about one application into reports."""

    def __init__(self, app: Celery, reports: Reports) -> None:
        self._app, self._reports = app, reports

    def succeeded(self, sender: Any, result: Any = None, **_: Any) -> None:
        """A task returned."""
        to = self._dispatch(sender.app, sender.request.headers, sender.request.hostname)
        if to is not None:
            self._reports.complete(to, result)

    def failed(self, sender: Any, exception: BaseException | None = None, **_: Any) -> None:
        """A task raised, was lost with its process or ran out of time."""
        to = self._dispatch(sender.app, sender.request.headers, sender.request.hostname)
        if to is None:
            return
        # Told by the main loop, which must go on, when the task's own process is gone.
        gone = type(exception).__name__ in {"WorkerLostError", "TimeLimitExceeded"}
        self._reports.raised(to, exception, patience=BRIEFLY if gone else None)

    def revoked(
        self, sender: Any, request: Any = None, *, terminated: bool = False, **_: Any
    ) -> None:
        """A task was taken back: before it began, or in the middle."""
        to = self._dispatch(sender.app, request.headers, request.hostname)
        if to is None:
            return
        if terminated:
            message = "the task was terminated while it ran"
            self._reports.unsure(to, message, "terminated", patience=BRIEFLY)
        else:
            message = "the task was revoked or too old before it began"
            self._reports.fail(to, message, retryable=True, code="revoked", patience=BRIEFLY)

    def unknown(self, sender: Any, name: str = "", message: Any = None, **_: Any) -> None:
        """A task came that this worker does not have."""
        to = self._dispatch(sender.app, message.headers, sender.hostname)
        if to is not None:
            said = f"the Celery worker has no task {name!r}; register it, or correct the handler"
            self._reports.fail(to, said, retryable=True, code="unknown_task", patience=BRIEFLY)

    def _dispatch(self, app: Any, headers: Any, hostname: str | None) -> Dispatch | None:
        """The dispatch that a message stands for; None if it is not orch8's."""
        if app is not self._app or not isinstance(headers, Mapping):
            return None
        step_id, epoch = headers.get(STEP_HEADER), headers.get(EPOCH_HEADER)
        if not isinstance(step_id, str) or not isinstance(epoch, int):
            return None
        return Dispatch(step_id, epoch, f"celery:{hostname or 'unknown'}"[:MAX_WORKER_ID])
