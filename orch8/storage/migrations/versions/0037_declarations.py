"""Declarations: plugins, rollback policies and releases, which are kept and which nothing runs."""

from alembic import op

revision = "0037"
down_revision = "0025"
branch_labels = None
depends_on = None

DECLARATIONS = """
CREATE TABLE declarations (
    kind text NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, tenant_id, name)
);
COMMENT ON TABLE declarations IS
    'Plugins, rollback policies and releases as callers declared them. Nothing acts upon them.';
"""


def upgrade() -> None:
    op.execute(DECLARATIONS)


def downgrade() -> None:
    op.execute("DROP TABLE declarations")
