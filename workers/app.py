"""The Celery application: every setting with its reason.

Messages are hints; Postgres has the truth.
Run with: celery -A workers.app worker -P threads -c 4 -Q o8.renewal,...
"""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue

from orch8.config import Settings
from orch8.runtime.tick import LANES

settings = Settings.from_env()
TICK = settings.tick_interval_ms / 1000
QUEUES = [f"o8.{name}" for name in (*LANES, "control")]

app = Celery("orch8", broker=settings.broker_url or None, include=["workers.tasks"])
app.conf.update(
    # -- nothing durable in the broker ---------------------------------------------------------
    result_backend=None,  # outputs are in Postgres; result backends leak channels
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_serializer="json",
    accept_content=["json"],  # a message can never run code
    enable_utc=True,
    task_create_missing_queues=True,
    # Each queue with an exchange and a key of its own: sharing one, every message would go to all.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    task_default_queue="o8.control",
    # -- acknowledgements ------------------------------------------------------------------------
    # Early: a lost message is a lost hint, which the next tick repeats. Late ones are delivered
    # again and again when a worker dies, and may be killed when the connection blinks.
    task_acks_late=False,
    task_reject_on_worker_lost=False,  # what crashed is counted in Postgres
    worker_cancel_long_running_tasks_on_connection_loss=False,  # a blink must not kill a charge
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,  # a busy process must not hoard wake-ups that others could use
    # -- no limits that threads ignore -----------------------------------------------------------
    task_time_limit=None,  # a pump runs for as long as there is work; its calls have time-outs
    task_soft_time_limit=None,
    worker_max_tasks_per_child=None,
    worker_pool_restarts=False,
    # -- a broker that comes and goes ------------------------------------------------------------
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # wait for it as long as it takes
    broker_pool_limit=10,
    broker_transport_options={
        "visibility_timeout": 600,
        "unacked_restore_interval": 10,  # what a dead process had popped comes back in seconds
        "unacked_restore_throttle": 1,
        "socket_timeout": 15,  # a half-open connection is noticed
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": "o8:",
    },
    task_publish_retry=True,
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.2},
    # -- what operators see in Flower ------------------------------------------------------------
    worker_send_task_events=True,  # messages are few, so events are cheap
    task_send_sent_event=False,
    event_queue_expires=60,
    event_queue_ttl=5,
    worker_hijack_root_logger=False,
    # -- the ticker ------------------------------------------------------------------------------
    beat_schedule={
        "tick": {
            "task": "orch8.tick",
            "schedule": TICK,
            # On a queue of its own, so that full lanes never hold it up; too old, it is dropped, so
            # that ticks never pile up while nobody takes them.
            "options": {"queue": "o8.control", "expires": max(TICK, 1.0)},
        }
    },
    beat_max_loop_interval=min(TICK, 1.0),
)
