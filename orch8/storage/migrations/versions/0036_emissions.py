"""Emissions: what was started under a dedupe key; and pauses that show as another state."""

from alembic import op

revision = "0036"
down_revision = "0034"
branch_labels = None
depends_on = None

EMISSIONS = """
CREATE TABLE emissions (
    tenant_id text NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    instance_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, scope, key)
);
COMMENT ON TABLE emissions IS
    'Which instance emit_event started first under each dedupe key, for thirty days.';
COMMENT ON COLUMN emissions.scope IS
    'The instance that emitted the event, or empty for a key that a whole tenant shares.';
CREATE INDEX emissions_age ON emissions (created_at);
"""

PAUSED_AS = """
ALTER TABLE instances ADD COLUMN paused_as text;
COMMENT ON COLUMN instances.paused_as IS
    'The state that the instance shows while it is paused, if another than paused.';
"""


def upgrade() -> None:
    op.execute(EMISSIONS)
    op.execute(PAUSED_AS)


def downgrade() -> None:
    op.execute("ALTER TABLE instances DROP COLUMN paused_as")
    op.execute("DROP TABLE emissions")
