"""What finds a version and creates its instances are functions, whose plans the database keeps."""

from alembic import op

revision = "0043"
down_revision = "0039"
branch_labels = None
depends_on = None

CREATE = """
CREATE FUNCTION orch8_create_43(json, json, json, json) RETURNS SETOF uuid
LANGUAGE plpgsql AS $function$
BEGIN
    RETURN QUERY
    WITH entered AS (
        INSERT INTO steps (instance_id, node_key, id, tenant_id, block_id, handler, effect, state,
            lane, created_at, path, round, due_at, held_due_at, pull, waits_for, expires_at,
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
            r.provider_ref, r.money FROM json_to_recordset($1)
            AS r(request text, instance_id uuid, node_key text, id uuid, tenant_id text, block_id
                text, handler text, effect text, state text, lane text, created_at timestamptz, path
                integer[], round smallint, due_at timestamptz, held_due_at timestamptz, pull
                boolean, waits_for text, expires_at timestamptz, deadline_at timestamptz, epoch
                integer, claimed_by uuid, worker text, lease_until timestamptz, generation smallint,
                dispatches integer, failures integer, crashes integer, deferrals integer,
                idempotency_key text, fingerprint text, first_dispatched_at timestamptz,
                context_version integer, limit_key text, queued_at timestamptz, attention jsonb,
                progress jsonb, outcome text, output jsonb, error jsonb, finished_at timestamptz,
                fence text, asking text, last_dispatched_at timestamptz, provider_ref text, money
                jsonb)),
    new AS MATERIALIZED (
        SELECT * FROM json_to_recordset($2) AS r(id uuid, tenant_id text, namespace text,
            sequence_id uuid, state text, snapshot jsonb, lane text, priority text, timezone text,
            metadata jsonb, idempotency_key text, request_sha256 text, fork_id uuid,
            parent_instance_id uuid, parent_node_key text, depth smallint, created_at timestamptz,
            updated_at timestamptz, finished_at timestamptz, outcome text, error jsonb,
            context_version integer, session_id uuid, dry_run boolean, terms jsonb)),
    keyed AS (
        INSERT INTO instance_keys (tenant_id, key, instance_id)
        SELECT tenant_id, idempotency_key, id FROM new WHERE idempotency_key IS NOT NULL
        ORDER BY tenant_id, idempotency_key
        ON CONFLICT (tenant_id, key) DO NOTHING RETURNING instance_id),
    created AS (
        INSERT INTO instances (id, tenant_id, namespace, sequence_id, state, snapshot, lane,
            priority,
            timezone, metadata, idempotency_key, request_sha256, fork_id, parent_instance_id,
            parent_node_key, depth, created_at, updated_at, finished_at, outcome, error,
            context_version, session_id, dry_run, terms)
        SELECT id, tenant_id, namespace, sequence_id, state, snapshot, lane, priority, timezone,
            metadata, idempotency_key, decode(request_sha256, 'hex'), fork_id, parent_instance_id,
            parent_node_key, depth, created_at, updated_at, finished_at, outcome, error,
            context_version, session_id, dry_run, terms
        FROM new WHERE idempotency_key IS NULL OR id IN (SELECT instance_id FROM keyed)
        RETURNING id),
    contexts_kept AS (
        INSERT INTO contexts (instance_id, version, tenant_id, body)
        SELECT instance_id, version, tenant_id, body FROM json_to_recordset($3)
            AS r(instance_id uuid, version integer, tenant_id text, body jsonb)),
    audited AS (
        INSERT INTO audit_log (id, tenant_id, actor, action, outcome, reason, instance_id, node_key,
            sequence_id, request_id, body)
        SELECT id, tenant_id, actor, action, outcome, reason, instance_id, node_key, sequence_id,
            request_id, body FROM json_to_recordset($4) AS r(id uuid, tenant_id text,
            actor text, action text, outcome text, reason text, instance_id uuid, node_key text,
            sequence_id uuid, request_id text, body jsonb))
    SELECT id FROM created;
END
$function$;
COMMENT ON FUNCTION orch8_create_43 IS
    'Steps, instances, contexts and audit entries of instances that are new, as storage.changes '
    'writes them; the ids of those that were created.';
"""
VERSION = """
CREATE FUNCTION orch8_version_43(
    tenant text, space text, called text, wanted integer,
    OUT moment timestamptz, OUT pace double precision, OUT version_id uuid)
LANGUAGE plpgsql STABLE AS $function$
BEGIN
    SELECT orch8_now(), COALESCE((SELECT c.rate FROM dev_clock c), 1), (
        SELECT q.id FROM sequences q
        WHERE q.tenant_id = tenant AND q.namespace = space AND q.name = called
            AND q.deleted_at IS NULL
            AND CASE WHEN wanted IS NULL THEN NOT q.deprecated ELSE q.version = wanted END
        ORDER BY q.version DESC LIMIT 1)
    INTO moment, pace, version_id;
END
$function$;
COMMENT ON FUNCTION orch8_version_43 IS
    'The version of that number, or the newest that is not deprecated; and what time it is.';
CREATE FUNCTION orch8_standing_43(
    wanted uuid, OUT moment timestamptz, OUT pace double precision, OUT stands boolean)
LANGUAGE plpgsql STABLE AS $function$
BEGIN
    SELECT orch8_now(), COALESCE((SELECT c.rate FROM dev_clock c), 1), EXISTS (
        SELECT FROM sequences q WHERE q.id = wanted AND q.deleted_at IS NULL)
    INTO moment, pace, stands;
END
$function$;
COMMENT ON FUNCTION orch8_standing_43 IS
    'Whether the version is there and not deleted; and what time it is.';
"""


def upgrade() -> None:
    op.execute(CREATE)
    op.execute(VERSION)


def downgrade() -> None:
    op.execute("DROP FUNCTION orch8_standing_43(uuid)")
    op.execute("DROP FUNCTION orch8_version_43(text, text, text, integer)")
    op.execute("DROP FUNCTION orch8_create_43(json, json, json, json)")
