"""Handing a step to the user's own Celery application: `"handler": "celery:<task>"`."""

from __future__ import annotations

from kombu.exceptions import LimitExceeded, OperationalError

from orch8.errors import Unavailable
from orch8.runtime.preparing import Task
from workers.app import app

QUEUE = "celery"  # where a Celery application listens unless it says otherwise
WAIT = 5.0  # seconds for a free connection
# The user's application knows nothing of the prefix under which our own messages lie.
_outside = app.connection_for_write(transport_options={"global_keyprefix": ""}).Pool(4)


def hand_over(task: Task) -> None:
    """The user's task has been sent, with the step's id and epoch, under which its worker completes
    or fails the step over REST (orch8.client.celery).
    """
    request = task.request
    assert request is not None
    try:
        with _outside.acquire(block=True, timeout=WAIT) as connection:
            app.send_task(
                task.row.handler.removeprefix("celery:"),
                kwargs={
                    "context": request.context,
                    "params": request.params,
                    "outputs": request.outputs,
                    "idempotency_key": request.idempotency_key,
                },
                headers={"orch8_step_id": str(task.row.id), "orch8_epoch": task.row.epoch},
                task_id=f"{task.row.id}-{task.row.epoch}",
                queue=QUEUE,
                ignore_result=True,
                connection=connection,
            )
    except (OperationalError, LimitExceeded) as problem:
        raise Unavailable(f"the broker did not take the task: {problem}") from problem
