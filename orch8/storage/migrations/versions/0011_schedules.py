"""Schedules that start instances by the clock; triggers that start them by name; events."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEDULES = """
CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    namespace text NOT NULL,
    sequence_id uuid NOT NULL,
    cron_expr text NOT NULL,
    timezone text NOT NULL,
    enabled boolean NOT NULL,
    metadata jsonb,
    overlap_policy text NOT NULL,
    skipped_fires bigint NOT NULL DEFAULT 0,
    last_skipped_at timestamptz,
    last_triggered_at timestamptz,
    next_fire_at timestamptz,
    put_off_slot timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON COLUMN schedules.next_fire_at IS
    'Business time of the next look: a time of the expression, or of another try.';
COMMENT ON COLUMN schedules.put_off_slot IS
    'The time of the expression that is tried again; it names the instance, so it fires once.';
CREATE INDEX schedules_due ON schedules (next_fire_at) WHERE enabled;
CREATE INDEX schedules_tenant ON schedules (tenant_id, id);
CREATE TABLE schedule_runs (
    schedule_id uuid NOT NULL REFERENCES schedules ON DELETE CASCADE,
    instance_id uuid NOT NULL,
    PRIMARY KEY (schedule_id, instance_id)
);
COMMENT ON TABLE schedule_runs IS
    'The instances of a schedule that had not ended when it last fired.';
"""

TRIGGERS = """
CREATE TABLE triggers (
    slug text PRIMARY KEY,
    tenant_id text NOT NULL,
    namespace text NOT NULL,
    sequence_name text NOT NULL,
    version integer,
    trigger_type text NOT NULL,
    secret text,
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX triggers_tenant ON triggers (tenant_id, slug);
"""

EVENTS = """
CREATE TABLE events (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    event_name text NOT NULL,
    producer_event_id text NOT NULL,
    correlation_key text NOT NULL,
    payload jsonb,
    consumed_by uuid,
    received_at timestamptz NOT NULL,
    UNIQUE (tenant_id, event_name, producer_event_id)
);
CREATE INDEX events_tenant ON events (tenant_id, id);
"""


def upgrade() -> None:
    op.execute(SCHEDULES)
    op.execute(TRIGGERS)
    op.execute(EVENTS)


def downgrade() -> None:
    op.execute("DROP TABLE events")
    op.execute("DROP TABLE triggers")
    op.execute("DROP TABLE schedule_runs")
    op.execute("DROP TABLE schedules")
