"""The outbox: what receivers are to be told, and how each delivery went; the index of the feed."""

from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

OUTBOX = """
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    url text NOT NULL,
    event_type text NOT NULL,
    instance_id uuid NOT NULL,
    payload json NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_flight', 'parked')),
    next_attempt_at timestamptz DEFAULT clock_timestamp(),
    claimed_at timestamptz
);
COMMENT ON TABLE outbox IS
    'Events that a receiver has not taken yet, written in the transaction of what they tell of.';
COMMENT ON COLUMN outbox.id IS 'The delivery''s: the same in every attempt, so that receivers can '
    'leave out what they had before.';
COMMENT ON COLUMN outbox.payload IS 'json and not jsonb: every attempt sends the same bytes.';
COMMENT ON COLUMN outbox.next_attempt_at IS
    'While it is in flight: when it counts as lost with its process. NULL: a person decides.';
CREATE INDEX outbox_due ON outbox (url, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE deliveries (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    url text NOT NULL,
    event_type text NOT NULL,
    instance_id uuid NOT NULL,
    delivered boolean NOT NULL,
    error_class text,
    attempts jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE deliveries IS
    'What came of each delivery, attempt by attempt; kept for 30 days after its event.';
"""

FEED = "CREATE INDEX audit_log_feed ON audit_log (tenant_id, at, id)"


def upgrade() -> None:
    op.execute(OUTBOX)
    op.execute(FEED)


def downgrade() -> None:
    op.execute("DROP INDEX audit_log_feed")
    op.execute("DROP TABLE deliveries")
    op.execute("DROP TABLE outbox")
