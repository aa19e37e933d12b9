"""API keys; nodes: processes of the API beside the workers, which can be drained; tallies."""

from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE api_keys (
    id text PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL DEFAULT '',
    capabilities text[] NOT NULL,
    secret_sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);
COMMENT ON TABLE api_keys IS
    'Who may ask, for one tenant. A secret is shown once and kept as its SHA-256 only.';
COMMENT ON COLUMN api_keys.last_used_at IS 'To the minute.';
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, created_at, id);
"""

NODES = """
ALTER TABLE workers
    ADD COLUMN role text NOT NULL DEFAULT 'worker',
    ADD COLUMN heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN draining_at timestamptz,
    ADD COLUMN drained_at timestamptz;
COMMENT ON COLUMN workers.role IS 'worker, or api: a web process, which claims nothing.';
COMMENT ON COLUMN workers.draining_at IS 'Since when it is to claim nothing any more.';
COMMENT ON COLUMN workers.drained_at IS 'Since when it knows that, and holds nothing any more.';
"""


TALLIES = """
CREATE TABLE tallies (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    upto uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    counts jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE tallies IS
    'How often each action is in the audit log, counted up to the entry upto, for monitoring.';
INSERT INTO tallies DEFAULT VALUES;
"""


def upgrade() -> None:
    op.execute(KEYS)
    op.execute(NODES)
    op.execute(TALLIES)


def downgrade() -> None:
    op.execute("DROP TABLE tallies")
    op.execute("DELETE FROM workers WHERE role <> 'worker'")
    op.execute(
        "ALTER TABLE workers DROP COLUMN drained_at, DROP COLUMN draining_at, "
        "DROP COLUMN heartbeat_at, DROP COLUMN role"
    )
    op.execute("DROP TABLE api_keys")
