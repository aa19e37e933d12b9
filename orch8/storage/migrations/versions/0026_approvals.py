"""Steps that wait for a person's answer are found; waits for events have a table of their own."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

UP = """
CREATE INDEX steps_approvals ON steps (tenant_id, id) WHERE waits_for = 'approval';

CREATE TABLE event_waits (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    instance_id uuid NOT NULL,
    node_key text NOT NULL,
    event_names text[] NOT NULL,
    correlation_key text NOT NULL,
    join_by text NOT NULL CHECK (join_by IN ('all', 'any', 'count')),
    needed integer NOT NULL,
    closed_at timestamptz,
    UNIQUE (instance_id, node_key)
);
CREATE INDEX event_waits_open ON event_waits (tenant_id, correlation_key, id)
    WHERE closed_at IS NULL;
COMMENT ON TABLE event_waits IS
    'Which events each step with the handler wait_for_event waits for. An event names the wait that'
    ' consumed it.';
COMMENT ON COLUMN event_waits.closed_at IS
    'Since when it takes no more events: it has all that it wants, or its step went on or ended.';
CREATE INDEX events_pending ON events (tenant_id, correlation_key, id) WHERE consumed_by IS NULL;
CREATE INDEX events_consumed ON events (consumed_by) WHERE consumed_by IS NOT NULL;
"""
DOWN = """
DROP INDEX events_consumed;
DROP INDEX events_pending;
DROP TABLE event_waits;
DROP INDEX steps_approvals;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
