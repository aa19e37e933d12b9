"""Circuit breakers: handlers that fail again and again are left alone for a while."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

BREAKERS = """
CREATE TABLE circuit_breakers (
    tenant_id text NOT NULL,
    handler text COLLATE "C" NOT NULL,
    failure_count integer NOT NULL DEFAULT 0,
    opened_at timestamptz,
    retry_at timestamptz,
    probe uuid,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, handler)
);
COMMENT ON TABLE circuit_breakers IS
    'How often each handler failed in a row, of those that were called at all.';
COMMENT ON COLUMN circuit_breakers.retry_at IS
    'From when on a probe may be sent; while one is on its way, from when on another may.';
COMMENT ON COLUMN circuit_breakers.probe IS
    'The step whose call finds out whether the handler works again: the breaker is half open.';
CREATE INDEX circuit_breakers_troubled ON circuit_breakers (tenant_id, handler)
    WHERE failure_count > 0;
-- As with fences: neither column changes while a step is on its way as most are.
CREATE INDEX steps_breaker ON steps (tenant_id, handler) WHERE waits_for = 'breaker';
"""


def upgrade() -> None:
    op.execute(BREAKERS)


def downgrade() -> None:
    op.execute("DROP INDEX steps_breaker")
    op.execute("DROP TABLE circuit_breakers")
