"""Renewals: when an oauth2 credential may be renewed again, and how often that failed."""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

RENEWALS = """
ALTER TABLE credentials
    ADD COLUMN renewal_due_at timestamptz,
    ADD COLUMN renewal_failures integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN credentials.renewal_due_at IS
    'Before that nobody renews it: a process is at it, or it failed a while ago.';
"""


def upgrade() -> None:
    op.execute(RENEWALS)


def downgrade() -> None:
    op.execute("ALTER TABLE credentials DROP COLUMN renewal_due_at, DROP COLUMN renewal_failures")
