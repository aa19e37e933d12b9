"""Sessions, which instances can belong to; checkpoints, which operators keep of instances."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SESSIONS = """
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    session_key text NOT NULL,
    data jsonb,
    state text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    UNIQUE (tenant_id, session_key)
);
COMMENT ON TABLE sessions IS
    'What callers keep about a series of instances; the engine itself reads none of it.';
ALTER TABLE instances ADD COLUMN session_id uuid;
CREATE INDEX instances_session ON instances (session_id, id) WHERE session_id IS NOT NULL;
"""

CHECKPOINTS = """
CREATE TABLE checkpoints (
    instance_id uuid NOT NULL,
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    checkpoint_data jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (instance_id, id)
);
COMMENT ON TABLE checkpoints IS
    'What operators and workers note about an instance; the engine itself reads none of it.';
"""


def upgrade() -> None:
    op.execute(SESSIONS)
    op.execute(CHECKPOINTS)


def downgrade() -> None:
    op.execute("DROP TABLE checkpoints")
    op.execute("ALTER TABLE instances DROP COLUMN session_id")
    op.execute("DROP TABLE sessions")
