"""Rate limits: how many calls may be in flight, and keys that are used without a limit."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE rate_limits
    ALTER COLUMN max DROP NOT NULL,
    ALTER COLUMN window_seconds DROP NOT NULL,
    ADD COLUMN max_in_flight integer CHECK (max_in_flight > 0),
    ADD CONSTRAINT rate_limits_limit CHECK (
        (max IS NULL) = (window_seconds IS NULL)
        AND (max IS NOT NULL OR max_in_flight IS NOT NULL));
COMMENT ON COLUMN rate_limits.max_in_flight IS 'How many calls may be in flight at a time.';

CREATE TABLE unlimited_keys (
    tenant_id text NOT NULL DEFAULT 'default',
    key text COLLATE "C" NOT NULL,
    calls bigint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE unlimited_keys IS
    'Rate-limit keys that steps were called with while nobody stated a limit; about how often.';
"""
DOWN = """
DROP TABLE unlimited_keys;
DELETE FROM rate_limits WHERE max IS NULL;
ALTER TABLE rate_limits
    DROP CONSTRAINT rate_limits_limit,
    DROP COLUMN max_in_flight,
    ALTER COLUMN max SET NOT NULL,
    ALTER COLUMN window_seconds SET NOT NULL;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
