"""Dry runs: instances whose steps call nobody and change nothing outside of them."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

DRY_RUN = """
ALTER TABLE instances ADD COLUMN dry_run boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN instances.dry_run IS
    'Whether its steps put out what they would do in place of doing it; it never changes.';
"""


def upgrade() -> None:
    op.execute(DRY_RUN)


def downgrade() -> None:
    op.execute("ALTER TABLE instances DROP COLUMN dry_run")
