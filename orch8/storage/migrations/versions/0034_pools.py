"""Pools: lists of resources that callers keep; the engine itself uses none of them."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

POOLS = """
CREATE TABLE pools (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    strategy text NOT NULL DEFAULT 'round_robin',
    round_robin_index integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX pools_tenant ON pools (tenant_id, id);
COMMENT ON TABLE pools IS 'Lists of resources that callers keep; the engine itself uses none.';

CREATE TABLE pool_resources (
    id uuid PRIMARY KEY,
    pool_id uuid NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    resource_key text NOT NULL,
    name text NOT NULL,
    weight integer NOT NULL DEFAULT 1 CHECK (weight > 0),
    enabled boolean NOT NULL DEFAULT true,
    daily_cap integer NOT NULL DEFAULT 0,
    daily_usage integer NOT NULL DEFAULT 0,
    daily_usage_date date,
    warmup_start date,
    warmup_days integer NOT NULL DEFAULT 0,
    warmup_start_cap integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX pool_resources_pool ON pool_resources (pool_id, id);
"""


def upgrade() -> None:
    op.execute(POOLS)


def downgrade() -> None:
    op.execute("DROP TABLE pool_resources")
    op.execute("DROP TABLE pools")
