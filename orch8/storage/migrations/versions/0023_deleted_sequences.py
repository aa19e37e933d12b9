"""Sequences that were deleted stay for what ran by them; their name and version are free again."""

from alembic import op

revision = "0023"
down_revision = "0020"
branch_labels = None
depends_on = None

DELETED = """
ALTER TABLE sequences ADD COLUMN deleted_at timestamptz;
COMMENT ON COLUMN sequences.deleted_at IS
    'Nobody finds it any more; instances that ran by it are still read with it.';
ALTER TABLE sequences DROP CONSTRAINT sequences_tenant_id_namespace_name_version_key;
CREATE UNIQUE INDEX sequences_version ON sequences (tenant_id, namespace, name, version)
    WHERE deleted_at IS NULL;
"""

# What was deleted is gone for good then, and whose version is taken by another has no place.
RESTORED = """
DROP INDEX sequences_version;
DELETE FROM sequences WHERE deleted_at IS NOT NULL;
ALTER TABLE sequences ADD UNIQUE (tenant_id, namespace, name, version);
ALTER TABLE sequences DROP COLUMN deleted_at;
"""


def upgrade() -> None:
    op.execute(DELETED)


def downgrade() -> None:
    op.execute(RESTORED)
