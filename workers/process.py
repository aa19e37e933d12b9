"""This worker process: its office and its pump, made on first use and put away at the end."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from typing import Any

from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_process_init,
    worker_shutdown,
    worker_shutting_down,
)

from orch8 import logs
from orch8.errors import ConfigurationError
from orch8.handlers import python
from orch8.limits import Doorbell, Limiter
from orch8.runtime import heap
from orch8.runtime.eyes import Eyes
from orch8.runtime.office import Office
from orch8.runtime.postman import Postman
from orch8.runtime.pump import Pump
from orch8.runtime.pusher import Pusher
from orch8.runtime.renewal import Renewer
from orch8.runtime.signal import run_errand
from orch8.runtime.vault import check_storage
from workers.app import settings
from workers.handover import hand_over

Courier = Postman | Renewer | Pusher

_lock = threading.Lock()
_office: Office | None = None
_pump: Pump | None = None
_eyes: Eyes | None = None
_couriers: tuple[Courier, ...] = ()
_node = f"worker@{os.uname().nodename}"


def office() -> Office:
    """The office of this process."""
    global _office  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _office is None:
            _office = Office(settings, pool=6, name=_node[:60])
        return _office


def pump() -> Pump:
    """The pump of this process."""
    global _pump  # noqa: PLW0603
    here = office()
    with _lock:
        if _pump is None:
            python.load(settings.handler_modules)
            _pump = Pump(
                here,
                _node,
                limiter=_limiter(),
                doorbell=Doorbell(settings.redis_url) if settings.redis_url else None,
                send_task=hand_over,
                run_errand=partial(run_errand, here),
                # Drained by an operator: it ends, or it would go on taking wake-ups from others.
                drained=lambda: os.kill(os.getpid(), signal.SIGTERM),
            )
            heap.settle_down()
        return _pump


def eyes() -> Eyes:
    """What this process sees of the limiter's Redis."""
    global _eyes  # noqa: PLW0603
    with _lock:
        if _eyes is None:
            _eyes = Eyes(_limiter())
        return _eyes


def _limiter() -> Limiter | None:
    return Limiter(settings.redis_url) if settings.redis_url else None


def couriers() -> tuple[Courier, ...]:
    """What this process carries out beside its pump, each in a thread of its own: letters to
    receivers of webhooks, renewals of tokens, hints to the addresses of queues.
    """
    global _couriers  # noqa: PLW0603
    here = office()
    with _lock:
        _couriers = _couriers or (Postman(here), Renewer(here), Pusher(here))
        return _couriers


@setup_logging.connect
def _logs(**_: Any) -> None:
    logs.configure(settings)


@celeryd_init.connect
def _named(sender: str, **_: Any) -> None:
    global _node  # noqa: PLW0603
    _node = sender
    try:
        check_storage(settings)
    except ConfigurationError as problem:
        raise SystemExit(f"orch8: {problem.detail}") from None  # Celery passes over other errors


@worker_process_init.connect
def _after_fork(**_: Any) -> None:
    if _office is not None:
        _office.database.after_fork()


@worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    if _pump is not None:
        _pump.wind_down(settings.grace)


@worker_shutdown.connect
def _stopped(**_: Any) -> None:
    if _pump is not None:
        _pump.stop(settings.grace)
    for courier in _couriers:
        courier.stop(1.0)
    if _office is not None:
        _office.close()
