"""The routes of instances: create, list, read, retry."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
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
    LogLineSchema,
    NodeSchema,
    OutputSchema,
    PageQuery,
    ReasonSchema,
    RetriedSchema,
    StartedSchema,
    StartQuery,
    StartSchema,
    TimelineQuery,
    TimelineSchema,
    TreeQuery,
)
from api.surface import surface
from orch8.errors import InvalidArgument
from orch8.runtime import decisions, inspect, journal, nodes
from orch8.runtime.resolve import Decision, Judgement
from orch8.runtime.retry import retry as retry_instance
from orch8.runtime.start import StartRequest, StartResult
from orch8.runtime.transition import CONTEXT_MEMBERS
from orch8.storage import audit, instances
from orch8.storage.instances import Filter

blueprint: Final = Blueprint("instances", __name__)

DEFAULT_PAGE: Final = 100
MAX_ENTRIES: Final = 1000
TIMELINE_PAGE: Final = 200
AUDIT_PAGE: Final = 200
_START, _CREATE, _REASON = StartSchema(), CreateSchema(), ReasonSchema()
_DECISION = DecisionSchema()
_LIST, _PAGE, _TIMELINE, _TREE = InstanceQuery(), PageQuery(), TimelineQuery(), TreeQuery()


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
    return _started(surface().intake.start(asked))


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
    return _started(surface().intake.start(created_as(requests.body(_CREATE))))


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


@blueprint.get("/instances/<instance_id>/children")
@operation(
    "List the instances that an instance started",
    query=PageQuery,
    answers={200: Many(InstanceSchema)},
    errors=(404,),
)
def children(instance_id: str) -> Response:
    """Those of its sub_sequence and start_sequence steps, the last changed first."""
    wanted = requests.path_id(instance_id)
    limit = min(requests.query(_PAGE).get("limit", MAX_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        inspect.shown(tx, wanted, tenant_id=caller().tenant)
        rows = instances.list_instances(tx, Filter(parent_instance_id=wanted), limit=limit)
    return answer([shapes.instance(row) for row in rows])


@blueprint.get("/instances/<instance_id>/logs")
@operation(
    "List what was said about an instance's steps, the oldest first",
    query=PageQuery,
    answers={200: Many(LogLineSchema)},
    errors=(404,),
)
def logs(instance_id: str) -> Response:
    """What became of each attempt, and what the sequence's own log steps say."""
    limit = min(requests.query(_PAGE).get("limit", MAX_ENTRIES), MAX_ENTRIES)
    with surface().office.begin() as tx:
        lines = journal.logs(
            tx, requests.path_id(instance_id), tenant_id=caller().tenant, limit=limit
        )
    return answer([line._asdict() for line in lines])


@blueprint.get("/instances/<instance_id>/outputs")
@operation(
    "List the outputs of an instance's steps, the oldest first",
    answers={200: Many(OutputSchema)},
    errors=(404,),
)
def outputs(instance_id: str) -> Response:
    """What the steps that completed came to, what loops and interceptors leave, and, where no step
    stands inside another block, why the last one failed.
    """
    wanted = requests.path_id(instance_id)
    office = surface().office
    with office.begin() as tx:
        rows = inspect.outputs(office, tx, wanted, tenant_id=caller().tenant)
    return answer([shapes.output(wanted, row) for row in rows])


@blueprint.get("/instances/<instance_id>/tree")
@operation(
    "List the nodes of an instance",
    query=TreeQuery,
    answers={200: Many(NodeSchema)},
    errors=(404,),
)
def tree(instance_id: str) -> Response:
    """Where the instance is. Of a sequence that is one list of steps, nothing unless ``flat``."""
    wanted, flat = requests.path_id(instance_id), requests.query(_TREE).get("flat", False)
    office = surface().office
    with office.begin() as tx:
        found = nodes.tree(office, tx, wanted, tenant_id=caller().tenant, flat=flat)
    return answer([shapes.node(wanted, each) for each in found])


@blueprint.get("/instances/<instance_id>/timeline")
@operation(
    "Tell an instance's story", query=TimelineQuery, answers={200: TimelineSchema}, errors=(404,)
)
def timeline(instance_id: str) -> Response:
    """What its steps came to, a page of them; and what happened, in order, with the evidence of
    calls that did not simply succeed.
    """
    wanted, asked = requests.path_id(instance_id), requests.query(_TIMELINE)
    offset, limit = asked.get("offset", 0), min(asked.get("limit", TIMELINE_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        found = inspect.timeline(tx, wanted, tenant_id=caller().tenant, limit=MAX_ENTRIES)
        page = journal.ended(tx, wanted, offset=offset, limit=limit)
    row, entries = found["instance"], found["entries"]
    with_output = asked.get("include_outputs", True)
    return answer(
        {
            "instance": shapes.instance(row),
            "state_transitions": list(journal.transitions(entries)),
            "entries": [shapes.timeline_entry(each, with_output=with_output) for each in page.rows],
            "offset": offset,
            "limit": limit,
            "has_more": page.more,
            "audit": [shapes.audit_entry(each, row) for each in entries],
            "evidence": [each._asdict() for each in found["evidence"]],
            "signals": [each._asdict() for each in found["signals"]],
        }
    )


@blueprint.get("/instances/<instance_id>/audit")
@operation(
    "List who did what to an instance, the newest first",
    query=PageQuery,
    answers={200: Many(AuditEntrySchema)},
    errors=(404,),
)
def audit_log(instance_id: str) -> Response:
    """The newest 200 entries, or up to 1000."""
    wanted = requests.path_id(instance_id)
    limit = min(requests.query(_PAGE).get("limit", AUDIT_PAGE), MAX_ENTRIES)
    with surface().office.begin() as tx:
        row = inspect.shown(tx, wanted, tenant_id=caller().tenant)
        entries = audit.newest_of(tx, wanted, limit)
    return answer([shapes.audit_entry(each, row) for each in entries])


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


def created_as(body: dict[str, Any], *, key_in_header: bool = True) -> StartRequest:
    """What a body of CreateSchema asks for; its key may stand in the Idempotency-Key header."""
    given = body.get("context") or {}
    context = {name: given[name] for name in CONTEXT_MEMBERS if name in given}
    asked = _asked(body, str(body["sequence_id"]), context=context, strict_key=False)
    return asked if key_in_header else replace(asked, idempotency_key=body.get("idempotency_key"))


def _asked(body: dict[str, Any], sequence: str, *, context: Any, strict_key: bool) -> StartRequest:
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
        session_id=body.get("session_id"),
        concurrency_key=body.get("concurrency_key"),
        max_concurrency=body.get("max_concurrency"),
        budget=body.get("budget"),
        actor=requests.actor(body.get("actor")),
        request_id=requests.request_id(),
        strict_key=strict_key,
        dry_run=body.get("dry_run", False),
        auto_approve=body.get("dry_run_auto_approve", False),
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
