"""Versions of instances' own, with blocks injected into them; the history of what is run anew."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

DERIVED = """
ALTER TABLE sequences ADD COLUMN derived_from uuid;
ALTER TABLE sequences ADD COLUMN injected integer NOT NULL DEFAULT 0;
ALTER TABLE sequences ADD CONSTRAINT sequences_derived_hidden
    CHECK (derived_from IS NULL OR deleted_at IS NOT NULL);
CREATE INDEX sequences_derived ON sequences (derived_from) WHERE derived_from IS NOT NULL;
COMMENT ON COLUMN sequences.derived_from IS
    'The published version that this one has more blocks than. Nobody finds it: deleted_at is set.';
COMMENT ON COLUMN sequences.injected IS
    'How many blocks at the end of its list are not of the version that it is derived from.';
"""
HISTORY = """
ALTER TABLE traces ADD COLUMN superseded_at timestamptz;
COMMENT ON COLUMN traces.superseded_at IS
    'Since when it is history: what it tells of was run anew.';
"""
# What was injected is lost then, and history looks like what was cancelled.
DOWN = """
ALTER TABLE traces DROP COLUMN superseded_at;
UPDATE steps SET state = 'cancelled' WHERE state = 'superseded';
UPDATE instances i SET sequence_id = q.derived_from FROM sequences q
    WHERE q.id = i.sequence_id AND q.derived_from IS NOT NULL;
DELETE FROM sequences WHERE derived_from IS NOT NULL;
ALTER TABLE sequences DROP CONSTRAINT sequences_derived_hidden;
ALTER TABLE sequences DROP COLUMN derived_from, DROP COLUMN injected;
"""


def upgrade() -> None:
    op.execute(DERIVED)
    op.execute(HISTORY)


def downgrade() -> None:
    op.execute(DOWN)
