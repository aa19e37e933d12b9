"""The house: sequences, instances, contexts, steps, signals, audit, workers, limits, handlers.

No foreign keys on the hot tables: each would lock a row of `sequences` or `instances` for every
step. Their rows are only ever written by the functions of orch8.storage, in one transaction.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CLOCK = """
CREATE TABLE dev_clock (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    real_at timestamptz NOT NULL,
    business_at timestamptz NOT NULL,
    rate double precision NOT NULL DEFAULT 1 CHECK (rate > 0)
);
COMMENT ON TABLE dev_clock IS
    'Empty in production. In dev mode: business time = business_at + (now - real_at) * rate.';

CREATE FUNCTION orch8_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT COALESCE((SELECT c.business_at + (now() - c.real_at) * c.rate FROM dev_clock c), now())
$$;
COMMENT ON FUNCTION orch8_now IS 'Business time: what timers, delays and key ages are measured in.';
"""

SEQUENCES = """
CREATE TABLE sequences (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    form text NOT NULL CHECK (form IN ('seed', 'contract')),
    status text NOT NULL DEFAULT 'production',
    deprecated boolean NOT NULL DEFAULT false,
    body jsonb NOT NULL,
    sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_id, namespace, name, version)
);
COMMENT ON TABLE sequences IS 'Published versions. A version never changes; an instance pins one.';
"""

INSTANCES = """
CREATE TABLE instances (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    namespace text NOT NULL DEFAULT 'default',
    sequence_id uuid NOT NULL,
    state text NOT NULL,
    cancelling boolean NOT NULL DEFAULT false,
    paused_at timestamptz,
    attention jsonb,
    outcome text,
    error jsonb,
    snapshot jsonb NOT NULL,
    context_version integer NOT NULL DEFAULT 1,
    lane text NOT NULL,
    priority text NOT NULL,
    timezone text NOT NULL DEFAULT 'UTC',
    metadata jsonb,
    idempotency_key text,
    request_sha256 bytea,
    fork_id uuid,
    round smallint NOT NULL DEFAULT 1,
    parent_instance_id uuid,
    parent_node_key text,
    depth smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
) WITH (fillfactor = 80);
COMMENT ON TABLE instances IS 'One row per run. Resume reads this row and nothing else.';
COMMENT ON COLUMN instances.snapshot IS
    'The live frames. Changes at every transition, so it is in no index.';
COMMENT ON COLUMN instances.updated_at IS
    'Changes with state only, so that transitions stay heap-only updates.';
CREATE UNIQUE INDEX instances_key ON instances (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX instances_updated ON instances (tenant_id, updated_at DESC, id DESC);
CREATE INDEX instances_sequence ON instances (sequence_id, id);
CREATE INDEX instances_finished ON instances (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX instances_parent ON instances (parent_instance_id)
    WHERE parent_instance_id IS NOT NULL;

CREATE TABLE contexts (
    instance_id uuid NOT NULL,
    version integer NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (instance_id, version)
);

CREATE TABLE instance_state (
    instance_id uuid NOT NULL,
    key text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    value jsonb NOT NULL,
    PRIMARY KEY (instance_id, key)
);
COMMENT ON TABLE instance_state IS 'What set_state keeps for one instance.';
"""

STEPS = """
CREATE TABLE steps (
    instance_id uuid NOT NULL,
    node_key text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    block_id text NOT NULL,
    path integer[] NOT NULL DEFAULT '{}',
    round smallint NOT NULL DEFAULT 1,
    handler text NOT NULL,
    effect text NOT NULL,
    state text NOT NULL,
    lane text COLLATE "C" NOT NULL,
    due_at timestamptz,
    held_due_at timestamptz,
    pull boolean NOT NULL DEFAULT false,
    waits_for text,
    expires_at timestamptz,
    deadline_at timestamptz,
    epoch integer NOT NULL DEFAULT 0,
    claimed_by uuid,
    worker text,
    lease_until timestamptz,
    generation smallint NOT NULL DEFAULT 1,
    dispatches integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    deferrals integer NOT NULL DEFAULT 0,
    idempotency_key text,
    fingerprint text,
    request bytea,
    first_dispatched_at timestamptz,
    context_version integer,
    limit_key text,
    queued_at timestamptz,
    attention jsonb,
    progress jsonb,
    outcome text,
    output jsonb,
    error jsonb,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (instance_id, node_key)
) WITH (fillfactor = 85);
COMMENT ON TABLE steps IS
    'One row per leaf that was entered, with its current attempt; and the memos of composites.';
COMMENT ON COLUMN steps.due_at IS
    'When the row wants a worker: a call, a timer, a time-out. Empty while it is claimed or waits.';
COMMENT ON COLUMN steps.held_due_at IS 'due_at while the instance is paused.';
COMMENT ON COLUMN steps.epoch IS
    'The number of the claim. A result with an old number is evidence and changes nothing.';
CREATE INDEX steps_due ON steps (lane, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX steps_claimed ON steps (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX steps_pull ON steps (id) WHERE pull;
CREATE INDEX steps_lease ON steps (lease_until) WHERE pull AND lease_until IS NOT NULL;
CREATE INDEX steps_expiry ON steps (expires_at) WHERE pull AND expires_at IS NOT NULL;
CREATE INDEX steps_queue ON steps (tenant_id, limit_key, queued_at, id) WHERE limit_key IS NOT NULL;

CREATE TABLE evidence (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    instance_id uuid NOT NULL,
    node_key text NOT NULL,
    epoch integer NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    verdict text,
    body jsonb NOT NULL
);
COMMENT ON TABLE evidence IS 'Append-only: what was observed of calls that did not simply succeed.';
CREATE INDEX evidence_instance ON evidence (instance_id, id);

CREATE TABLE signals (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    instance_id uuid NOT NULL,
    name text NOT NULL,
    payload jsonb,
    actor text,
    dedupe_key text,
    received_at timestamptz NOT NULL,
    consumed_at timestamptz,
    consumed_by text,
    UNIQUE (instance_id, dedupe_key)
);
COMMENT ON TABLE signals IS
    'The inbox. A signal that comes before its wait stays until the wait consumes it.';
CREATE INDEX signals_open ON signals (instance_id, name, id) WHERE consumed_at IS NULL;
"""

AUDIT = """
CREATE TABLE audit_log (
    id uuid NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    actor text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    reason text,
    instance_id uuid,
    node_key text,
    sequence_id uuid,
    request_id text,
    body jsonb,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE audit_log IS
    'Append-only: who did what, when and why. Written in the transaction of what it tells of.';
CREATE INDEX audit_log_instance ON audit_log (instance_id, id);
CREATE TABLE audit_log_rest PARTITION OF audit_log DEFAULT;

CREATE FUNCTION orch8_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION orch8_append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION orch8_append_only();
CREATE TRIGGER audit_log_rest_no_truncate BEFORE TRUNCATE ON audit_log_rest
    FOR EACH STATEMENT EXECUTE FUNCTION orch8_append_only();
CREATE TRIGGER evidence_append_only BEFORE UPDATE OR DELETE ON evidence
    FOR EACH ROW EXECUTE FUNCTION orch8_append_only();
CREATE TRIGGER evidence_no_truncate BEFORE TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION orch8_append_only();
"""

FLEET = """
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    node text NOT NULL,
    lanes text[] NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL,
    calls integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE workers IS
    'One row per start of a worker process. Its lease covers every claim of the process.';

CREATE TABLE handlers (
    tenant_id text NOT NULL DEFAULT 'default',
    name text NOT NULL,
    url text,
    effect text,
    timeout double precision,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE pull_workers (
    tenant_id text NOT NULL DEFAULT 'default',
    worker_id text NOT NULL,
    handlers text[] NOT NULL DEFAULT '{}',
    queues text[] NOT NULL DEFAULT '{}',
    version text,
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, worker_id)
);

CREATE TABLE rate_limits (
    tenant_id text NOT NULL DEFAULT 'default',
    key text NOT NULL,
    source text NOT NULL,
    max integer NOT NULL CHECK (max > 0),
    window_seconds double precision NOT NULL CHECK (window_seconds > 0),
    slack_seconds double precision NOT NULL DEFAULT 0.02 CHECK (slack_seconds >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, key, source)
);
COMMENT ON COLUMN rate_limits.source IS
    'operator, or the id of the sequence version that states the limit inline.';
"""

UP = (CLOCK, SEQUENCES, INSTANCES, STEPS, AUDIT, FLEET)
TABLES = (
    "rate_limits", "pull_workers", "handlers", "workers", "audit_log", "signals", "evidence",
    "steps", "instance_state", "contexts", "instances", "sequences", "dev_clock",
)  # fmt: skip


def upgrade() -> None:
    for part in UP:
        op.execute(part)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION orch8_append_only()")
    op.execute("DROP FUNCTION orch8_now()")
