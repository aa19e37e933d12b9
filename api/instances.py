"""The routes of instances: create, list, read, retry."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response, request

from api import requests, shapes
from api.answers import answer
from api.attention import decided
from api.auth import caller
from api.operations import Many, operation
from api.schemas.attention import ProposalSchema
from api.schemas.base import refuse_unknown
from api.schemas.instances import (
    MAX_PAGE,
    AuditEntrySchema,
    CreateSchema,
    DecisionSchema,
    InstancePageSchema,
    InstanceQuery,
    InstanceSchema,
    NodeSchema,
    OutputSchema,
    PageQuery,
    ReasonSchema,
    RetriedSchema,
    StartedSchema,
    StartQuery,
    StartSchema,
    TimelineSchema,
)
from api.surface import surface
from orch8.errors import InvalidArgument, Problem
from orch8.runtime import decisions, inspect
from orch8.runtime.resolve import Decision, Judgement
from orch8.runtime.retry import retry as retry_instance
from orch8.runtime.start import StartRequest, StartResult, start
from orch8.storage import audit, instances
from orch8.storage.instances import Filter

blueprint: Final = Blueprint("instances", __name__)

DEFAULT_PAGE: Final = 100
MAX_ENTRIES: Final = 1000
_START, _CREATE, _REASON = StartSchema(), CreateSchema(), ReasonSchema()
_DECISION = DecisionSchema()
_LIST, _PAGE = InstanceQuery(), PageQuery()
_CONTEXT: Final = ("data", "config", "audit", "runtime")


@blueprint.post("/sequences/<sequence>/instances")
@operation(
    "Start an instance of a sequence, by its name or a version's id",
    body=StartSchema,
    query=StartQuery,
    answers={201: StartedSchema, 200: StartedSchema},
    errors=(404, 409, 413),
    headers=("Idempotency-Key", "X-Actor"),
)
def start_one(sequence: str) -> Response:
    """201 and the instance; 200 and the earlier one when the key was used for the same before, or
    another has the business key and the sequence says that it stands for this one.
    """
    raw = requests.json_body()
    if not requests.wants_lenient():
        refuse_unknown(_START, raw)
    body = requests.members(_START, raw)
    asked = _asked(body, sequence, context=body.get("context") or {}, strict_key=True)
    return _started(start(surface().office, asked))


@blueprint.post("/instances")
@operation(
    "Create an instance of one version of a sequence",
    body=CreateSchema,
    answers={201: StartedSchema, 200: StartedSchema},
    errors=(403, 404, 409, 413),
    headers=("Idempotency-Key", "X-Actor"),
)
def create() -> Response:
    """201 and the instance; 200 and the earlier one when the key was used before, for whatever."""
    body = requests.body(_CREATE)
    given = body.get("context") or {}
    context = {name: given[name] for name in _CONTEXT if name in given}
    asked = _asked(body, str(body["sequence_id"]), context=context, strict_key=False)
    return _started(start(surface().office, asked))


@blueprint.get("/instances")
@operation(
    "List instances, the last changed first", query=InstanceQuery, answers={200: InstancePageSchema}
)
def list_some() -> Response:
    """A page: follow next_cursor, or count with offset."""
    asked = requests.query(_LIST)
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    wanted = Filter(
        tenant_id=caller().tenant or asked.get("tenant_id"),
        namespace=asked.get("namespace"),
        sequence_id=asked.get("sequence_id"),
        sequence_name=asked.get("sequence"),
        states=asked.get("state", ()),
        metadata={
            n.removeprefix("metadata."): v
            for n, v in request.args.items()
            if n.startswith("metadata.")
        },
        idempotency_key=asked.get("idempotency_key"),
    )
    with surface().office.begin() as tx:
        rows = instances.list_instances(
            tx,
            wanted,
            limit=limit + 1,
            after=_after(asked.get("cursor")),
            offset=asked.get("offset", 0),
        )
    more = len(rows) > limit
    rows = rows[:limit]
    return answer(
        {
            "items": [shapes.instance(row) for row in rows],
            "has_more": more,
            "next_cursor": _cursor(rows[-1]) if more else None,
        }
    )


@blueprint.get("/instances/<instance_id>")
@operation("Read an instance", answers={200: InstanceSchema}, errors=(404,))
def read(instance_id: str) -> Response:
    """The instance as it is now."""
    with surface().office.begin() as tx:
        return answer(
            shapes.instance(
                inspect.shown(tx, requests.path_id(instance_id), tenant_id=caller().tenant)
            )
        )


@blueprint.get("/instances/<instance_id>/outputs")
@operation(
    "List the outputs of an instance's steps, the oldest first",
    answers={200: Many(OutputSchema)},
    errors=(404,),
)
def outputs(instance_id: str) -> Response:
    """What the steps that ended came to."""
    with surface().office.begin() as tx:
        rows = inspect.outputs(tx, requests.path_id(instance_id), tenant_id=caller().tenant)
    return answer([shapes.output(row) for row in rows])


@blueprint.get("/instances/<instance_id>/tree")
@operation(
    "List the nodes of an instance that were entered",
    answers={200: Many(NodeSchema)},
    errors=(404,),
)
def tree(instance_id: str) -> Response:
    """Where the instance is."""
    wanted = requests.path_id(instance_id)
    office = surface().office
    with office.begin() as tx:
        nodes = inspect.tree(office, tx, wanted, tenant_id=caller().tenant)
    return answer([shapes.node(wanted, each) for each in nodes])


@blueprint.get("/instances/<instance_id>/timeline")
@operation(
    "Tell an instance's story", query=PageQuery, answers={200: TimelineSchema}, errors=(404,)
)
def timeline(instance_id: str) -> Response:
    """What happened, in order, with the evidence of calls that did not simply succeed."""
    limit = min(requests.query(_PAGE).get("limit", MAX_ENTRIES), MAX_ENTRIES)
    with surface().office.begin() as tx:
        found = inspect.timeline(
            tx, requests.path_id(instance_id), tenant_id=caller().tenant, limit=limit
        )
    row = found["instance"]
    return answer(
        {
            "instance": shapes.instance(row),
            "entries": [shapes.audit_entry(each, row) for each in found["entries"]],
            "evidence": [each._asdict() for each in found["evidence"]],
            "signals": [each._asdict() for each in found["signals"]],
        }
    )


@blueprint.get("/instances/<instance_id>/audit")
@operation(
    "List who did what to an instance, the newest first",
    answers={200: Many(AuditEntrySchema)},
    errors=(404,),
)
def audit_log(instance_id: str) -> Response:
    """The audit log of the instance."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        row = inspect.shown(tx, wanted, tenant_id=caller().tenant)
        entries = audit.audit_of(tx, wanted, limit=MAX_ENTRIES)
    return answer([shapes.audit_entry(each, row) for each in reversed(entries)])


@blueprint.post("/instances/<instance_id>/retry")
@operation(
    "Retry a failed instance where it failed",
    body=ReasonSchema,
    body_required=False,
    answers={200: RetriedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def retry(instance_id: str) -> Response:
    """The failed steps run again in a new round; what completed is never called again."""
    wanted = requests.path_id(instance_id)
    body = requests.optional_body(_REASON)
    office = surface().office
    with office.begin() as tx:
        row = retry_instance(
            office,
            tx,
            wanted,
            tenant_id=caller().tenant,
            actor=requests.actor(body.get("actor")),
            reason=body.get("reason"),
            request_id=requests.request_id(),
        )
    surface().announce(row.lane)
    return answer({"id": row.id, "state": row.state, "round": row.round})


@blueprint.post("/instances/<instance_id>/resolve")
@operation(
    "Decide what became of a step in doubt",
    body=DecisionSchema,
    answers={200: RetriedSchema, 202: ProposalSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def resolve(instance_id: str) -> Response:
    """As POST /attention/<instance>/<step>/decide; who decides may stand in the body."""
    wanted = requests.path_id(instance_id)
    body = requests.body(_DECISION)
    judgement = Judgement(
        decision=Decision(body["decision"]),
        actor=requests.actor(body.get("actor")),
        reason=body["reason"],
        output=body.get("output"),
        provider_ref=body.get("provider_ref"),
        request_id=requests.request_id(),
    )
    office = surface().office
    with office.begin() as tx:
        found = decisions.decide(
            office, tx, wanted, body["step"], judgement, tenant_id=caller().tenant
        )
    return decided(found)


def _asked(body: dict[str, Any], sequence: str, *, context: Any, strict_key: bool) -> StartRequest:
    if body.get("dry_run"):
        raise InvalidArgument(
            "dry_run is not supported yet",
            errors=[Problem("/dry_run", "not supported yet", "leave it out", "not_yet")],
        )
    return StartRequest(
        sequence=sequence,
        tenant_id=caller().tenant_or_default(body.get("tenant_id")),
        namespace=body.get("namespace", "default"),
        version=body.get("version"),
        context={"data": {}, "config": {}, **context},
        idempotency_key=requests.idempotency_key(body.get("idempotency_key")),
        priority=body.get("priority", "Normal"),
        lane=body.get("lane"),
        timezone=body.get("timezone"),
        metadata=body.get("metadata"),
        next_fire_at=body.get("next_fire_at"),
        actor=requests.actor(body.get("actor")),
        request_id=requests.request_id(),
        strict_key=strict_key,
    )


def _started(result: StartResult) -> Response:
    here = surface()
    here.counters.started(deduplicated=result.deduplicated)
    for lane in result.lanes:
        here.announce(lane)
    body = {**shapes.instance(result.shown), "deduplicated": result.deduplicated}
    if result.deduplicated:
        return answer(body, 200, {"Idempotent-Replayed": "true"})
    return answer(body, 201, {"Location": f"/instances/{result.instance.id}"})


def _cursor(row: Any) -> str:
    text = f"{row.updated_at.astimezone(UTC).isoformat()}/{row.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, _, last = text.partition("/")
        return datetime.fromisoformat(at), UUID(last)
    except (ValueError, binascii.Error):
        raise InvalidArgument("cursor is not one that a page gave as next_cursor") from None
