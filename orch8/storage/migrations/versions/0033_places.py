"""Places: concurrency keys, what callers ask of an instance besides, and alarms of steps."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

TERMS = """
ALTER TABLE instances ADD COLUMN terms jsonb, ADD COLUMN executed integer;
COMMENT ON COLUMN instances.terms IS
    'What was asked for besides the run itself: its concurrency key, how many at a time, its'
    ' budget.';
COMMENT ON COLUMN instances.executed IS
    'How many of its steps ended; counted only where something depends on it.';
"""

PLACES = """
CREATE TABLE places (
    instance_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    key text NOT NULL,
    most integer,
    asked_at timestamptz NOT NULL,
    held_at timestamptz,
    missed boolean NOT NULL DEFAULT false
);
CREATE INDEX places_held ON places (tenant_id, key) WHERE held_at IS NOT NULL;
CREATE INDEX places_line ON places (tenant_id, key, instance_id) WHERE held_at IS NULL;
CREATE INDEX places_missed ON places (tenant_id, key) WHERE missed;
COMMENT ON TABLE places IS
    'Instances with a concurrency key that are under way, or, without held_at, that wait in line.';
COMMENT ON COLUMN places.missed IS
    'It was given a place, but its steps were locked just then: the tick sees to it.';
CREATE INDEX steps_place ON steps (instance_id) WHERE waits_for = 'place';
"""

ALARMS = """
CREATE TABLE alarms (
    instance_id uuid NOT NULL,
    node_key text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (instance_id, node_key)
);
CREATE INDEX alarms_due ON alarms (due_at);
COMMENT ON TABLE alarms IS
    'When to look whether a step takes longer than its sequence promises; the tick takes them out.';
"""


def upgrade() -> None:
    op.execute(TERMS)
    op.execute(PLACES)
    op.execute(ALARMS)


def downgrade() -> None:
    op.execute("DROP TABLE alarms")
    op.execute("DROP INDEX steps_place")
    op.execute("DROP TABLE places")
    op.execute("ALTER TABLE instances DROP COLUMN terms, DROP COLUMN executed")
