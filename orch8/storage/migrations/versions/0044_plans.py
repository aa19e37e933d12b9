"""What locks claims, settles and claims steps are functions, whose plans the database keeps."""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

# One plan for all parameters: the months that are not meant are left out when it begins. It is made
# once for a connection, perhaps while a month is empty, when reading it from end to end looks best.
BY_KEY = """SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"""

# An instance is joined by an array of its id: with i.id = r.i the planner may find steps by i.id
# alone and sift them, since with few steps an instance that looks as good.
LOCK = f"""
CREATE FUNCTION orch8_lock_claims_44(low uuid, high uuid, keys json) RETURNS TABLE (
    id uuid, tenant_id text, namespace text, sequence_id uuid, state text, snapshot jsonb, lane
        text, priority text, timezone text, created_at timestamptz, updated_at timestamptz,
        cancelling boolean, paused_at timestamptz, paused_as text, attention jsonb, outcome text,
        error jsonb, context_version integer, metadata jsonb, idempotency_key text, request_sha256
        bytea, fork_id uuid, round smallint, parent_instance_id uuid, parent_node_key text, depth
        smallint, finished_at timestamptz, session_id uuid, dry_run boolean, terms jsonb, executed
        integer, moment timestamptz, rate double precision, n integer, step_epoch integer,
        step_claimed_by uuid, step_state text)
LANGUAGE plpgsql {BY_KEY} AS $function$
BEGIN
    RETURN QUERY
    SELECT i.id, i.tenant_id, i.namespace, i.sequence_id, i.state, CASE WHEN r.first THEN
        i.snapshot END AS snapshot, i.lane, i.priority, i.timezone, i.created_at, i.updated_at,
        i.cancelling, i.paused_at, i.paused_as, i.attention, i.outcome, i.error, i.context_version,
        i.metadata, i.idempotency_key, i.request_sha256, i.fork_id, i.round, i.parent_instance_id,
        i.parent_node_key, i.depth, i.finished_at, i.session_id, i.dry_run, i.terms, i.executed,
        orch8_now() AS moment, COALESCE((SELECT c.rate FROM dev_clock c), 1) AS rate, r.n, s.epoch
        AS step_epoch, s.claimed_by AS step_claimed_by,
        s.state AS step_state
    FROM json_to_recordset($3) AS r(n integer, i uuid, k text, first boolean)
    JOIN instances i ON i.id = ANY(ARRAY[r.i])
    JOIN steps s ON s.instance_id = r.i AND s.node_key = r.k
    WHERE i.id >= ALL (ARRAY[$1]) AND i.id <= ALL (ARRAY[$2]) AND s.instance_id >= ALL
        (ARRAY[$1]) AND s.instance_id <= ALL (ARRAY[$2]) ORDER BY i.id, s.node_key FOR UPDATE OF i,
        s;
END
$function$;
COMMENT ON FUNCTION orch8_lock_claims_44 IS
    'The instances of these nodes, locked in the order of their ids, and what each claim is.';
"""
SETTLE = f"""
CREATE FUNCTION orch8_settle_44(uuid, uuid, json, json, json, json) RETURNS SETOF uuid
LANGUAGE plpgsql {BY_KEY} AS $function$
BEGIN
    RETURN QUERY
    WITH settled AS (
        UPDATE steps s SET state = r.state, outcome = r.outcome, output = r.output, error =
            r.error, finished_at = r.finished_at, failures = r.failures, due_at = r.due_at,
            claimed_by = r.claimed_by, attention = r.attention, provider_ref = r.provider_ref
        FROM json_to_recordset($3)
            AS r(instance_id uuid, node_key text, state text, outcome text, output jsonb, error
                jsonb, finished_at timestamptz, failures integer, due_at timestamptz, claimed_by
                uuid, attention jsonb, provider_ref text)
        WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key
            AND s.instance_id >= ALL (ARRAY[$1]) AND s.instance_id <= ALL (ARRAY[$2])),
    entered AS (
        INSERT INTO steps (instance_id, node_key, id, tenant_id, block_id, handler, effect,
            state, lane, created_at, path, round, due_at, held_due_at, pull, waits_for, expires_at,
            deadline_at, epoch, claimed_by, worker, lease_until, generation, dispatches, failures,
            crashes, deferrals, idempotency_key, fingerprint, request, first_dispatched_at,
            context_version, limit_key, queued_at, attention, progress, outcome, output, error,
            finished_at, fence, asking, last_dispatched_at, provider_ref, money)
        SELECT r.instance_id, r.node_key, r.id, r.tenant_id, r.block_id, r.handler, r.effect,
            r.state, r.lane, r.created_at, r.path, r.round, r.due_at, r.held_due_at, r.pull,
            r.waits_for, r.expires_at, r.deadline_at, r.epoch, r.claimed_by, r.worker,
            r.lease_until, r.generation, r.dispatches, r.failures, r.crashes, r.deferrals,
            r.idempotency_key, r.fingerprint, decode(r.request, 'base64'), r.first_dispatched_at,
            r.context_version, r.limit_key, r.queued_at, r.attention, r.progress, r.outcome,
            r.output, r.error, r.finished_at, r.fence, r.asking, r.last_dispatched_at,
            r.provider_ref, r.money FROM json_to_recordset($4)
            AS r(request text, instance_id uuid, node_key text, id uuid, tenant_id text,
                block_id text, handler text, effect text, state text, lane text, created_at
                timestamptz, path integer[], round smallint, due_at timestamptz, held_due_at
                timestamptz, pull boolean, waits_for text, expires_at timestamptz, deadline_at
                timestamptz, epoch integer, claimed_by uuid, worker text, lease_until timestamptz,
                generation smallint, dispatches integer, failures integer, crashes integer,
                deferrals integer, idempotency_key text, fingerprint text, first_dispatched_at
                timestamptz, context_version integer, limit_key text, queued_at timestamptz,
                attention jsonb, progress jsonb, outcome text, output jsonb, error jsonb,
                finished_at timestamptz, fence text, asking text, last_dispatched_at timestamptz,
                provider_ref text, money jsonb)),
    advanced AS (
        UPDATE instances i SET snapshot = r.snapshot, state = r.state, updated_at = r.updated_at,
            cancelling = r.cancelling, paused_at = r.paused_at, paused_as = r.paused_as,
            attention = r.attention, outcome = r.outcome, error = r.error, round = r.round,
            context_version = r.context_version, finished_at = r.finished_at, executed = r.executed
        FROM json_to_recordset($5) AS r(id uuid, snapshot jsonb, state text,
            updated_at timestamptz, cancelling boolean, paused_at timestamptz, paused_as text,
            attention jsonb, outcome text, error jsonb, round smallint, context_version integer,
            finished_at timestamptz, executed integer)
        WHERE i.id = r.id AND i.id >= ALL (ARRAY[$1]) AND i.id <= ALL (ARRAY[$2])),
    audited AS (
        INSERT INTO audit_log (id, tenant_id, actor, action, outcome, reason, instance_id, node_key,
            sequence_id, request_id, body)
        SELECT id, tenant_id, actor, action, outcome, reason, instance_id, node_key, sequence_id,
            request_id, body FROM json_to_recordset($6) AS r(id uuid, tenant_id text,
            actor text, action text, outcome text, reason text, instance_id uuid, node_key text,
            sequence_id uuid, request_id text, body jsonb))
    SELECT NULL::uuid AS id WHERE false;
END
$function$;
COMMENT ON FUNCTION orch8_settle_44 IS
    'Steps that have ended, steps that follow them, their instances and audit entries, as '
    'storage.changes writes them; no row.';
"""
END = f"""
CREATE FUNCTION orch8_end_44(uuid, uuid, json, json, json) RETURNS SETOF uuid
LANGUAGE plpgsql {BY_KEY} AS $function$
BEGIN
    RETURN QUERY
    WITH settled AS (
        UPDATE steps s SET state = r.state, outcome = r.outcome, output = r.output, error =
            r.error, finished_at = r.finished_at, failures = r.failures, due_at = r.due_at,
            claimed_by = r.claimed_by, attention = r.attention, provider_ref = r.provider_ref
        FROM json_to_recordset($3)
            AS r(instance_id uuid, node_key text, state text, outcome text, output jsonb, error
                jsonb, finished_at timestamptz, failures integer, due_at timestamptz, claimed_by
                uuid, attention jsonb, provider_ref text)
        WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key
            AND s.instance_id >= ALL (ARRAY[$1]) AND s.instance_id <= ALL (ARRAY[$2])),
    advanced AS (
        UPDATE instances i SET snapshot = r.snapshot, state = r.state, updated_at = r.updated_at,
            cancelling = r.cancelling, paused_at = r.paused_at, paused_as = r.paused_as,
            attention = r.attention, outcome = r.outcome, error = r.error, round = r.round,
            context_version = r.context_version, finished_at = r.finished_at, executed = r.executed
        FROM json_to_recordset($4) AS r(id uuid, snapshot jsonb, state text,
            updated_at timestamptz, cancelling boolean, paused_at timestamptz, paused_as text,
            attention jsonb, outcome text, error jsonb, round smallint, context_version integer,
            finished_at timestamptz, executed integer)
        WHERE i.id = r.id AND i.id >= ALL (ARRAY[$1]) AND i.id <= ALL (ARRAY[$2])),
    audited AS (
        INSERT INTO audit_log (id, tenant_id, actor, action, outcome, reason, instance_id, node_key,
            sequence_id, request_id, body)
        SELECT id, tenant_id, actor, action, outcome, reason, instance_id, node_key, sequence_id,
            request_id, body FROM json_to_recordset($5) AS r(id uuid, tenant_id text,
            actor text, action text, outcome text, reason text, instance_id uuid, node_key text,
            sequence_id uuid, request_id text, body jsonb))
    SELECT NULL::uuid AS id WHERE false;
END
$function$;
COMMENT ON FUNCTION orch8_end_44 IS 'As orch8_settle_44, where no step follows.';
"""
CLAIM = f"""
CREATE FUNCTION orch8_mark_claimed_44(low uuid, high uuid, rows json) RETURNS void
LANGUAGE plpgsql {BY_KEY} AS $function$
BEGIN
    WITH r AS MATERIALIZED (SELECT * FROM json_to_recordset($3) AS r(i uuid, k text,
        state text, due_at timestamptz, epoch integer, claimed_by uuid, worker text,
        lease_until timestamptz, dispatches integer, idempotency_key text, fingerprint text,
        first_dispatched_at timestamptz, context_version integer, limit_key text,
        queued_at timestamptz, pull boolean, waits_for text, fence text,
        last_dispatched_at timestamptz, money jsonb, progress jsonb, request text)),
    claimed AS (
        UPDATE steps s SET state = r.state, due_at = r.due_at, epoch = r.epoch,
            claimed_by = r.claimed_by, worker = r.worker, lease_until = r.lease_until,
            dispatches = r.dispatches, idempotency_key = r.idempotency_key, fingerprint =
                r.fingerprint,
            first_dispatched_at = r.first_dispatched_at, context_version = r.context_version,
            limit_key = r.limit_key, queued_at = r.queued_at, waits_for = r.waits_for, pull =
                r.pull,
            fence = r.fence, last_dispatched_at = r.last_dispatched_at, money = r.money,
            progress = r.progress, request = decode(r.request, 'base64')
        FROM r WHERE s.instance_id = r.i AND s.node_key = r.k AND s.instance_id >= ALL
            (ARRAY[$1]) AND s.instance_id <= ALL (ARRAY[$2])),
    -- An instance that a settle holds right now is passed over: that settle writes its state.
    shown AS (
        SELECT i.id FROM instances i
        WHERE i.id IN (SELECT i FROM r WHERE NOT r.pull AND r.state = 'running')
            AND i.state IN ('scheduled', 'waiting') AND i.paused_at IS NULL AND i.id >= ALL
                (ARRAY[$1]) AND i.id <= ALL (ARRAY[$2])
        FOR UPDATE SKIP LOCKED)
    UPDATE instances i SET state = 'running', updated_at = orch8_now()
    FROM shown WHERE i.id = shown.id AND i.id >= ALL (ARRAY[$1]) AND i.id <= ALL (ARRAY[$2]);
END
$function$;
COMMENT ON FUNCTION orch8_mark_claimed_44 IS
    'scheduled -> running: rows of steps carry their claim, and their instances are shown so.';
"""


def upgrade() -> None:
    for statement in (LOCK, SETTLE, END, CLAIM):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION orch8_mark_claimed_44(uuid, uuid, json)")
    op.execute("DROP FUNCTION orch8_end_44(uuid, uuid, json, json, json)")
    op.execute("DROP FUNCTION orch8_settle_44(uuid, uuid, json, json, json, json)")
    op.execute("DROP FUNCTION orch8_lock_claims_44(uuid, uuid, json)")
