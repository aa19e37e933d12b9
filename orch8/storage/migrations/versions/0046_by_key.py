"""Functions whose plans are kept look rows up also when their plan was made for an empty month.

An equality tells the planner in which order an index has the rows, and so does a sort by its first
column: it may then go through all of the index. Where a month is known to be empty, as after
ANALYZE, that looked best, and the month filled up under the plan.
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

SETTLED = ("s.instance_id = r.instance_id", "s.instance_id = ANY(ARRAY[r.instance_id])")
ADVANCED = ("i.id = r.id", "i.id = ANY(ARRAY[r.id])")
SHOWN = """FROM instances i
        WHERE i.id IN (SELECT i FROM r WHERE NOT r.pull AND r.state = 'running')
            AND i.state"""
SHOWN_BY_KEY = """FROM (SELECT DISTINCT r.i AS id FROM r WHERE NOT r.pull AND r.state = 'running') c
        JOIN instances i ON i.id = ANY(ARRAY[c.id])
        WHERE i.state"""
# What each function says, and what it says instead; the answers are the same.
CHANGED = {
    "orch8_settle_44": (SETTLED, ADVANCED),
    "orch8_end_44": (SETTLED, ADVANCED),
    "orch8_lock_claims_44": (
        ("s.instance_id = r.i ", "s.instance_id = ANY(ARRAY[r.i]) "),
        ("ORDER BY i.id, s.node_key", 'ORDER BY r.i, r.k COLLATE "C"'),
    ),
    "orch8_mark_claimed_44": (
        ("s.instance_id = r.i ", "s.instance_id = ANY(ARRAY[r.i]) "),
        (SHOWN, SHOWN_BY_KEY),
        ("FOR UPDATE SKIP", "FOR UPDATE OF i SKIP"),
        ("i.id = shown.id", "i.id = ANY(ARRAY[shown.id])"),
    ),
}
REPLACE = """
DO $do$
DECLARE
    before text := pg_get_functiondef('{name}'::regproc);
BEGIN
    IF strpos(before, $old${old}$old$) = 0 THEN
        RAISE EXCEPTION 'function % is not as the migration before has left it', '{name}';
    END IF;
    EXECUTE replace(before, $old${old}$old$, $new${new}$new$);
END
$do$
"""


def upgrade() -> None:
    for name, pairs in CHANGED.items():
        for old, new in pairs:
            op.execute(REPLACE.format(name=name, old=old, new=new))


def downgrade() -> None:
    for name, pairs in CHANGED.items():
        for old, new in reversed(pairs):
            op.execute(REPLACE.format(name=name, old=new, new=old))
