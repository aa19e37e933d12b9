"""Money safety: fences, doubts, incidents, decisions by two people, budgets, business keys.

What a step's row says of its attempt stays in `steps`; everything here is small, or only there for
attempts that may have moved money.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STEPS = """
ALTER TABLE steps
    ADD COLUMN fence text,
    ADD COLUMN asking text,
    ADD COLUMN last_dispatched_at timestamptz,
    ADD COLUMN provider_ref text,
    ADD COLUMN money jsonb;
COMMENT ON COLUMN steps.asking IS
    'The handler that is being asked what became of the attempt, in place of the step''s own.';
-- None of their columns changes while a step without a fence, that moves no money, is on its way,
-- so the updates of the hot path stay heap-only.
CREATE INDEX steps_fence ON steps (tenant_id, fence) WHERE waits_for = 'fence';
CREATE INDEX steps_attempt ON steps (tenant_id, idempotency_key)
    WHERE effect IN ('money', 'irrevocable');
CREATE INDEX steps_parked ON steps (tenant_id, id) WHERE attention IS NOT NULL;
CREATE INDEX steps_reference ON steps (tenant_id, provider_ref) WHERE provider_ref IS NOT NULL;
"""

FENCES = """
CREATE TABLE fences (
    tenant_id text NOT NULL DEFAULT 'default',
    fence text COLLATE "C" NOT NULL,
    instance_id uuid NOT NULL,
    node_key text NOT NULL,
    since timestamptz NOT NULL,
    settled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, fence)
);
COMMENT ON TABLE fences IS 'Which step may move money behind each fence: at most one at a time.';
COMMENT ON COLUMN fences.settled IS
    'The step has ended, but the customer still has to act (requires_action).';
CREATE INDEX fences_instance ON fences (instance_id);

CREATE TABLE business_keys (
    tenant_id text NOT NULL DEFAULT 'default',
    key text COLLATE "C" NOT NULL,
    instance_id uuid NOT NULL,
    lasting boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE business_keys IS
    'The instance that has a business key; gone when it ends, unless lasting.';
CREATE INDEX business_keys_instance ON business_keys (instance_id);

CREATE TABLE correlations (
    tenant_id text NOT NULL DEFAULT 'default',
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    instance_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, name, value, instance_id)
);
COMMENT ON TABLE correlations IS 'By which names and values open instances can be signalled.';
CREATE INDEX correlations_instance ON correlations (instance_id);
"""

DOUBTS = """
CREATE TABLE doubts (
    instance_id uuid NOT NULL,
    node_key text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    handler text NOT NULL,
    provider text,
    effect text NOT NULL,
    idempotency_key text,
    money jsonb,
    reason text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    resolved_by text,
    verdict text,
    PRIMARY KEY (instance_id, node_key, generation)
);
COMMENT ON TABLE doubts IS
    'Attempts that were sent and whose end was not known at once; how each was found out.';
CREATE INDEX doubts_open ON doubts (tenant_id, opened_at) WHERE resolved_at IS NULL;
CREATE INDEX doubts_key ON doubts (tenant_id, idempotency_key);
CREATE INDEX doubts_resolved ON doubts (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE incidents (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    instance_id uuid NOT NULL,
    node_key text,
    kind text NOT NULL,
    body jsonb NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    closed_by text,
    reason text
);
COMMENT ON TABLE incidents IS
    'What contradicts what is recorded, or broke a promise: for a person, never acted on.';
CREATE INDEX incidents_open ON incidents (tenant_id, id) WHERE closed_at IS NULL;
CREATE INDEX incidents_instance ON incidents (instance_id, id);

CREATE TABLE decisions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    instance_id uuid NOT NULL,
    node_key text NOT NULL,
    epoch integer NOT NULL,
    decision text NOT NULL,
    output jsonb,
    provider_ref text,
    reason text NOT NULL,
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'open',
    decided_by text,
    decided_at timestamptz,
    note text
);
COMMENT ON TABLE decisions IS
    'What one person proposed about an attempt above the tenant''s amount, for another to confirm.';
CREATE UNIQUE INDEX decisions_open ON decisions (instance_id, node_key) WHERE state = 'open';

CREATE TABLE tenant_policies (
    tenant_id text PRIMARY KEY,
    two_person_above jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by text NOT NULL
);
COMMENT ON COLUMN tenant_policies.two_person_above IS
    'By currency, in minor units: from this amount on, decisions need a second person.';
"""

BUDGETS = """
CREATE TABLE network_attempts (
    instance_id uuid NOT NULL,
    node_key text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    network text NOT NULL,
    instrument text COLLATE "C" NOT NULL,
    merchant text NOT NULL DEFAULT '',
    amount bigint,
    currency text,
    at timestamptz NOT NULL,
    verdict text,
    PRIMARY KEY (instance_id, node_key, generation)
);
COMMENT ON TABLE network_attempts IS
    'Attempts on an instrument as the card networks count them: from their dispatch, once for each '
    'key, and not those that surely never reached the network.';
COMMENT ON COLUMN network_attempts.at IS 'Business time of the first dispatch.';
CREATE INDEX network_attempts_window ON network_attempts (tenant_id, instrument, at);
"""

UP = (STEPS, FENCES, DOUBTS, BUDGETS)
TABLES = (
    "network_attempts", "tenant_policies", "decisions", "incidents", "doubts", "correlations",
    "business_keys", "fences",
)  # fmt: skip


def upgrade() -> None:
    for part in UP:
        op.execute(part)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP INDEX steps_reference")
    op.execute("DROP INDEX steps_parked")
    op.execute("DROP INDEX steps_attempt")
    op.execute("DROP INDEX steps_fence")
    op.execute(
        "ALTER TABLE steps DROP COLUMN money, DROP COLUMN provider_ref, "
        "DROP COLUMN last_dispatched_at, DROP COLUMN asking, DROP COLUMN fence"
    )
