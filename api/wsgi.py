"""The web process: wires the app from the environment. Served by ``granian api.wsgi:app``."""

from __future__ import annotations

from typing import Final

from celery import Celery
from flask import Flask

from api import create_app, streams
from api.announce import Announcer
from orch8 import logs
from orch8.config import Settings
from orch8.errors import ConfigurationError
from orch8.limits import Doorbell
from orch8.runtime import heap
from orch8.runtime.office import Office
from orch8.runtime.vault import check_storage

TIMEOUT: Final = 0.2  # seconds that any one operation on the broker may take
EXPIRES: Final = 5.0  # seconds after which a wake-up is stale: a tick has come since
POOL: Final = 8  # connections: one for each thread of the server
TASK: Final = "orch8.work"
PREFIX: Final = "o8:"  # of every key in a Redis broker; as the workers' application has it


def producer(broker_url: str) -> Celery:
    """A Celery application that only sends: one try, short time-outs, no results."""
    app = Celery("orch8", broker=broker_url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=TIMEOUT,
        broker_connection_retry=False,
        broker_pool_limit=1,
        # Two for Redis, two for AMQP, which leave each other's alone. Without the first kombu would
        # sleep two seconds and try again when a connection is refused.
        broker_transport_options={
            "max_retries": 0,
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "read_timeout": TIMEOUT,
            "write_timeout": TIMEOUT,
            "global_keyprefix": PREFIX,
        },
        task_publish_retry=False,
        task_ignore_result=True,
        task_send_sent_event=False,
    )
    return app


def wake(app: Celery, lane: str) -> None:
    """A message tells the lane's workers that something is due."""
    app.send_task(
        TASK,
        kwargs={"lane": lane, "reason": "doorbell"},
        queue=f"o8.{lane}",
        expires=EXPIRES,
        retry=False,
        ignore_result=True,
    )


def wire(settings: Settings) -> Flask:
    """The app with everything it needs. ConfigurationError names what is not set."""
    for name, value in (
        ("ORCH8_DATABASE_URL", settings.database_url),
        ("ORCH8_BROKER_URL", settings.broker_url),
        ("ORCH8_REDIS_URL", settings.redis_url),
        ("ORCH8_KEY_SECRET", settings.key_secret),
    ):
        if not value:
            raise ConfigurationError(f"{name} is not set; `orch8 config` lists every setting")
    check_storage(settings)
    sender = producer(settings.broker_url)
    announcer = Announcer(Doorbell(settings.redis_url), lambda lane: wake(sender, lane))
    return create_app(settings, Office(settings, pool=POOL, name="orch8-api"), announcer)


def __getattr__(name: str) -> Flask:
    # Wired when the server asks for it, so that the parts can be imported without an environment.
    if name != "app":
        raise AttributeError(name)
    settings = Settings.from_env()
    logs.configure(settings)
    streams.end_with_process()
    found = wire(settings)
    heap.settle_down()
    globals()["app"] = found
    return found
