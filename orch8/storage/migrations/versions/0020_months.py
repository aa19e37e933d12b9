"""Instances, steps and contexts in partitions of a month each; idempotency keys in their own table.

No row of them is copied on the way up: the table as it was becomes the partition of everything up
to the end of the present month, with its indexes. It is read once, when it is attached.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import CursorResult, text

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None

PARTITIONED = (  # by which column, and the fill factor
    ("instances", "id", 80), ("contexts", "instance_id", 100), ("steps", "instance_id", 85),
)  # fmt: skip

KEYS = """
CREATE TABLE instance_keys (
    tenant_id text NOT NULL,
    key text COLLATE "C" NOT NULL,
    instance_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE instance_keys IS
    'Which instance was created under each idempotency key, whatever month it is of.';
INSERT INTO instance_keys (tenant_id, key, instance_id)
    SELECT tenant_id, idempotency_key, id FROM instances WHERE idempotency_key IS NOT NULL;
DROP INDEX instances_key;
"""
KEYS_DOWN = """
CREATE UNIQUE INDEX instances_key ON instances (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
DROP TABLE instance_keys;
"""
# Without the predicate it also finds those that have not ended: what holds a month back.
FINISHED = """
DROP INDEX instances_finished;
CREATE INDEX instances_finished ON instances (finished_at);
"""
FINISHED_DOWN = """
DROP INDEX instances_finished;
CREATE INDEX instances_finished ON instances (finished_at) WHERE finished_at IS NOT NULL;
"""

MONTHS = """
CREATE FUNCTION orch8_first_id(moment timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0')
        || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION orch8_first_id IS 'The smallest id that can be made at or after a moment.';

CREATE FUNCTION orch8_make_months(parent text, until timestamptz) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    rest text := parent || '_rest';
    split_by text := CASE WHEN parent IN ('contexts', 'steps') THEN 'instance_id' ELSE 'id' END;
    month timestamp;
    name text;
    low uuid;
    high uuid;
    found boolean;
    made integer := 0;
BEGIN
    SELECT to_date(max(right(c.relname, 7)), 'YYYY_MM') + interval '1 month' INTO month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$';
    month := COALESCE(month, date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC'));
    WHILE month <= until AT TIME ZONE 'UTC' LOOP
        name := parent || to_char(month, '_YYYY_MM');
        low := orch8_first_id(month AT TIME ZONE 'UTC');
        month := month + interval '1 month';
        high := orch8_first_id(month AT TIME ZONE 'UTC');
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', rest);
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %I >= %L AND %I < %L)',
            rest, split_by, low, split_by, high) INTO found;
        CONTINUE WHEN found AND parent = 'audit_log';  -- append-only: what came early stays there
        -- Not CREATE TABLE ... PARTITION OF, which would lock the parent.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = %s)', name,
            parent, CASE parent WHEN 'steps' THEN 85 WHEN 'instances' THEN 80 ELSE 100 END);
        IF found THEN
            EXECUTE format('WITH early AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) '
                'INSERT INTO %I SELECT * FROM early', rest, split_by, low, split_by, high, name);
        END IF;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, name, low, high);
        IF parent = 'audit_log' THEN  -- the parent's row triggers come with it, this one does not
            EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
                'EXECUTE FUNCTION orch8_append_only()', name || '_no_truncate', name);
        END IF;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
COMMENT ON FUNCTION orch8_make_months IS
    'Every month from the last one that has a partition to that of the moment has one; how many '
    'are new. What is in the partition of the rest already moves there.';
REVOKE ALL ON FUNCTION orch8_make_months FROM PUBLIC;

CREATE FUNCTION orch8_months_ahead(parent text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF parent NOT IN ('instances', 'contexts', 'steps', 'audit_log') THEN
        RAISE EXCEPTION '% has no months', parent;
    END IF;
    RETURN public.orch8_make_months(parent, clock_timestamp()
        + CASE parent WHEN 'audit_log' THEN interval '11 months' ELSE interval '2 months' END);
END $$;
COMMENT ON FUNCTION orch8_months_ahead IS
    'The months to come have their partitions, made as the owner of the tables; how many are new.';
REVOKE ALL ON FUNCTION orch8_months_ahead FROM PUBLIC;
"""
MONTHS_DOWN = """
DROP FUNCTION orch8_months_ahead(text);
DROP FUNCTION orch8_make_months(text, timestamptz);
DROP FUNCTION orch8_first_id(timestamptz);
"""


def upgrade() -> None:
    op.execute(MONTHS)
    op.execute(KEYS)
    op.execute(FINISHED)
    for table, column, fillfactor in PARTITIONED:
        _split(table, column, fillfactor)


def downgrade() -> None:
    for table, _, fillfactor in PARTITIONED:
        _join(table, fillfactor)
    op.execute(FINISHED_DOWN)
    op.execute(KEYS_DOWN)
    op.execute(MONTHS_DOWN)


def _split(table: str, column: str, fillfactor: int) -> None:
    """The table is the first partition of a new one that has its name."""
    made = _made_of(table)
    # A clock that runs ahead may have made ids of the next month already.
    month, bound = _run(
        f"""SELECT to_char(last, 'YYYY_MM'),
                orch8_first_id((last + interval '1 month') AT TIME ZONE 'UTC')
            FROM (SELECT date_trunc('month', greatest(clock_timestamp(), (
                SELECT to_timestamp(('x0000' || left(replace({column}::text, '-', ''), 12))
                    ::bit(64)::bigint / 1000.0)
                FROM {table} ORDER BY {column} DESC LIMIT 1)) AT TIME ZONE 'UTC') AS last) l"""
    ).one()
    first = f"{table}_{month}"
    _run(f"ALTER TABLE {table} RENAME TO {first}")
    for index in made["names"]:
        _run(f"ALTER INDEX {index} RENAME TO {first}{index.removeprefix(table)}")
    _run(
        f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING COMMENTS "
        f"INCLUDING CONSTRAINTS) PARTITION BY RANGE ({column})"
    )
    _finish(made)
    _run(f"ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{bound}')")
    _run(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT WITH (fillfactor = {fillfactor})")


def _join(table: str, fillfactor: int) -> None:
    """The table is one again. Its rows are copied."""
    made = _made_of(table)
    _run(
        f"CREATE TABLE {table}_joined (LIKE {table} INCLUDING DEFAULTS INCLUDING COMMENTS "
        f"INCLUDING CONSTRAINTS) WITH (fillfactor = {fillfactor})"
    )
    _run(f"INSERT INTO {table}_joined SELECT * FROM {table}")
    _run(f"DROP TABLE {table}")
    _run(f"ALTER TABLE {table}_joined RENAME TO {table}")
    _finish(made)


def _made_of(table: str) -> dict[str, list[str]]:
    """The names of a table's indexes, and the statements that make them, its key and comment."""
    indexes = _run(
        f"""SELECT c.relname AS name, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ') AS made,
                i.indisprimary AS key
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = '{table}'::regclass ORDER BY c.relname"""
    ).all()
    keys = _run(
        f"""SELECT format('ALTER TABLE {table} ADD CONSTRAINT %I %s', conname,
                pg_get_constraintdef(oid)) AS made
            FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'p'"""
    ).all()
    comments = _run(
        f"""SELECT format('COMMENT ON TABLE {table} IS %L', t) AS made
            FROM obj_description('{table}'::regclass) t WHERE t IS NOT NULL"""
    ).all()
    others = [row for row in indexes if not row.key]
    return {
        "names": [row.name for row in indexes],
        "statements": [row.made for row in [*keys, *others, *comments]],
    }


def _finish(made: dict[str, list[str]]) -> None:
    for statement in made["statements"]:
        _run(statement)


def _run(statement: str) -> CursorResult[Any]:
    """As it stands: a colon in it names no parameter."""
    return op.get_bind().execute(text(statement.replace(":", r"\:")))
