"""The routes of many instances at once: creating a batch, setting states, moving times, acting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.instances import created_as
from api.operations import operation
from api.schemas.bulk import (
    BatchActedSchema,
    BatchActionSchema,
    BatchHeadSchema,
    BatchSchema,
    BulkRescheduleSchema,
    BulkStateSchema,
    ChangedSchema,
    CountSchema,
    CreatedSchema,
)
from api.schemas.instances import CreateSchema
from api.surface import surface
from orch8.errors import InvalidArgument, Problem, Unprocessable
from orch8.runtime import bulk
from orch8.runtime.because import Because
from orch8.runtime.bulk import Action, Bulk
from orch8.runtime.start_many import LARGEST, OnDuplicate, placed, start_many
from orch8.storage.instances import Filter

blueprint: Final = Blueprint("bulk", __name__)

DEFAULT_LIMIT: Final = 1000
_HEAD, _CREATE = BatchHeadSchema(), CreateSchema()
_STATE, _RESCHEDULE, _ACTION = BulkStateSchema(), BulkRescheduleSchema(), BatchActionSchema()


@blueprint.post("/instances/batch")
@operation(
    "Create many instances, all of them or none",
    body=BatchSchema,
    answers={201: CreatedSchema, 200: CountSchema},
    errors=(403, 404, 409),
    headers=("X-Actor",),
)
def create() -> Response:
    """201 and how many; an error says at which of them the batch failed."""
    raw = requests.json_body()
    head = requests.members(_HEAD, raw)
    wanted = []
    for index, each in enumerate(_instances(raw)):
        with placed(index):
            wanted.append(created_as(requests.members(_CREATE, each), key_in_header=False))
    if not wanted:
        return answer({"count": 0})
    here = surface()
    on_duplicate = OnDuplicate(head.get("on_duplicate", OnDuplicate.ERROR))
    made = start_many(here.office, wanted, on_duplicate)
    here.counters.started(deduplicated=False, count=made.created)
    here.counters.started(deduplicated=True, count=made.deduplicated)
    _announce(made.lanes)
    return answer({"count": made.created, "deduplicated": made.deduplicated}, 201)


@blueprint.patch("/instances/bulk/state")
@operation(
    "Set the state of many instances",
    body=BulkStateSchema,
    answers={200: ChangedSchema},
    headers=("X-Actor",),
)
def set_states() -> Response:
    """Those that can be given the state are on their way to it; up to 10000 in one request."""
    body = requests.body(_STATE)
    done = bulk.set_states(surface().office, _filter(body["filter"]), body["state"], _because(body))
    return _changed(done)


@blueprint.patch("/instances/bulk/reschedule")
@operation(
    "Let many scheduled instances go on later, or sooner",
    body=BulkRescheduleSchema,
    answers={200: ChangedSchema},
    headers=("X-Actor",),
)
def reschedule() -> Response:
    """What they are to do at a time, and never tried yet, they do so many seconds later."""
    body = requests.body(_RESCHEDULE)
    done = bulk.reschedule(
        surface().office, _filter(body["filter"]), body["offset_secs"], _because(body)
    )
    return _changed(done)


@blueprint.post("/instances/batch-action")
@operation(
    "Retry, pause, resume, cancel or signal many instances",
    body=BatchActionSchema,
    answers={200: BatchActedSchema},
    headers=("X-Actor",),
)
def act() -> Response:
    """Each in a transaction of its own, the oldest first; what it makes no sense for is skipped."""
    body = requests.body(_ACTION)
    dry_run = body.get("dry_run", False)
    done = bulk.act(
        surface().office,
        _filter(body["filter"]),
        Action(body["action"]),
        _because(body),
        limit=min(max(1, body.get("limit", DEFAULT_LIMIT)), bulk.MOST),
        signal_type=body.get("signal_type"),
        payload=body.get("payload"),
        dry_run=dry_run,
    )
    _announce(done.lanes)
    return answer(
        {
            "matched": done.matched,
            "applied": done.applied,
            "skipped": done.skipped,
            "failed": done.failed,
            "dry_run": dry_run,
            "has_more": done.more,
            "errors": [{"instance_id": i, "error": error} for i, error in done.errors],
        }
    )


def _instances(raw: Mapping[str, Any]) -> list[Any]:
    given = raw.get("instances")
    if not isinstance(given, list):
        message = "instances must be a list"
        raise Unprocessable(message, errors=[Problem("/instances", message, shape=True)])
    if len(given) > LARGEST:
        message = f"batch size must not exceed {LARGEST:,}"
        problem = Problem("/instances", message, "send several batches")
        raise InvalidArgument(message, errors=[problem])
    return given


def _filter(given: Mapping[str, Any]) -> Filter:
    return Filter(
        tenant_id=caller().tenant_of_many(given.get("tenant_id")),
        namespace=given.get("namespace"),
        sequence_id=given.get("sequence_id"),
        states=tuple(given.get("states") or ()),
        metadata=given.get("metadata"),
    )


def _because(body: Mapping[str, Any]) -> Because:
    return requests.because(body.get("reason"), body.get("actor"))


def _changed(done: Bulk) -> Response:
    _announce(done.lanes)
    return answer(
        {
            "count": done.applied,
            "skipped": done.skipped + done.failed,
            "has_more": done.more,
        }
    )


def _announce(lanes: tuple[str, ...]) -> None:
    for lane in lanes:
        surface().announce(lane)
