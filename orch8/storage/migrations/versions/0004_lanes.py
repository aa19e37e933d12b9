"""Lanes: tenants take turns in a lane, and the queue of a rate-limited key has a line per lane."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
-- Beside steps_due, which finds the longest due of a lane: only with the tenant in front can the
-- work of one be found behind the backlog of another.
CREATE INDEX steps_turns ON steps (lane, tenant_id, due_at) WHERE due_at IS NOT NULL;
DROP INDEX steps_queue;
CREATE INDEX steps_queue ON steps (tenant_id, limit_key, lane, queued_at, id)
    WHERE limit_key IS NOT NULL;
"""
DOWN = """
DROP INDEX steps_queue;
CREATE INDEX steps_queue ON steps (tenant_id, limit_key, queued_at, id) WHERE limit_key IS NOT NULL;
DROP INDEX steps_turns;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
