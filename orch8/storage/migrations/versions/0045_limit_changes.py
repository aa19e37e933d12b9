"""Rate limits: which transaction changed them last, so that nobody reads them again in vain."""

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE rate_limit_changes (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    txid bigint NOT NULL
);
COMMENT ON TABLE rate_limit_changes IS
    'The transaction that last changed which limits are stated; one row, or none.';

CREATE FUNCTION orch8_limits_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rate_limit_changes AS c (txid) VALUES (txid_current())
    ON CONFLICT (one) DO UPDATE SET txid = excluded.txid WHERE c.txid <> excluded.txid;
    RETURN NULL;
END $$;
CREATE TRIGGER rate_limits_changed AFTER INSERT OR UPDATE OR DELETE ON rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION orch8_limits_changed();
CREATE TRIGGER sequences_limits_changed AFTER UPDATE OF deprecated OR DELETE ON sequences
    FOR EACH STATEMENT EXECUTE FUNCTION orch8_limits_changed();
"""
DOWN = """
DROP TRIGGER sequences_limits_changed ON sequences;
DROP TRIGGER rate_limits_changed ON rate_limits;
DROP FUNCTION orch8_limits_changed();
DROP TABLE rate_limit_changes;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
