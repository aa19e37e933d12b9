"""The routes that show the tasks of pull workers: lists, counts, and what happened to each."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.workers import (
    AttemptsQuery,
    TaskEventSchema,
    TaskSchema,
    TasksQuery,
    TaskStatsSchema,
)
from api.surface import surface
from orch8.runtime import tasks
from orch8.storage.tasks import TaskFilter
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("tasks", __name__)

DEFAULT_PAGE: Final = 50
DEFAULT_STORY: Final = 100
MAX_PAGE: Final = 1000
_LIST, _STORY = TasksQuery(), AttemptsQuery()


@blueprint.get("/workers/tasks")
@operation(
    "List tasks of pull workers, the newest first",
    query=TasksQuery,
    answers={200: Many(TaskSchema)},
)
def list_all() -> Response:
    """Those wanted among the 50,000 newest; secrets in their parameters are references."""
    asked = requests.query(_LIST)
    office = surface().office
    wanted = TaskFilter(
        tenant_id=caller().tenant_of_list(asked.get("tenant_id")),
        states=asked.get("state") or None,
        handler=asked.get("handler_name"),
        worker_id=asked.get("worker_id"),
        queue=asked.get("queue_name"),
    )
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    with office.begin() as tx:
        found = tasks.newest(office, tx, wanted, limit=limit, offset=asked.get("offset", 0))
    lease = surface().settings.worker_reaper_stale
    return answer([shapes.listed_task(each, lease) for each in found])


@blueprint.get("/workers/tasks/stats")
@operation("Count tasks of pull workers", answers={200: TaskStatsSchema})
def stats() -> Response:
    """The 50,000 newest by state and handler, and the workers that have some now."""
    with surface().office.begin() as tx:
        return answer(asdict(tasks.stats(tx, caller().tenant)))


@blueprint.get("/workers/tasks/<task_id>/attempts")
@operation(
    "Show what happened to a task, the oldest first",
    query=AttemptsQuery,
    answers={200: Many(TaskEventSchema)},
    errors=(404,),
)
def attempts(task_id: str) -> Response:
    """Each claim, and what became of it; a step that is tried again stays the same task."""
    wanted = requests.path_id(task_id, "task id")
    limit = min(requests.query(_STORY).get("limit", DEFAULT_STORY), MAX_PAGE)
    with surface().office.begin() as tx:
        rows = tasks.attempts(tx, wanted, tenant_id=caller().tenant, limit=limit)
    return answer([_attempt(row) for row in rows])


def _attempt(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    return {name: value for name, value in shown.items() if value is not None}
