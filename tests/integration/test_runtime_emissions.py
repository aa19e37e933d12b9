"""emit_event: who loses a dedupe key to another process at the last moment finds the winner."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import psycopg2

from orch8.runtime.triggers import TriggerRequest
from orch8.storage import triggers
from orch8.storage.ids import uuid7
from tests.support.house import LANE, House, until

EMIT = {
    "type": "step", "id": "emit", "handler": "emit_event",
    "params": {"trigger_slug": "go", "dedupe_key": "k", "dedupe_scope": "tenant"},
}  # fmt: skip
TAKE = "INSERT INTO emissions VALUES ('default', '', 'k', %s, now())"
BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"


def test_key_that_is_lost_to_another_process_is_found_the_second_time(house: House) -> None:
    """Also by a step that is settled alone already, since its batch broke: it is not parked."""
    house.publish({"type": "step", "handler": "noop"}, name="kept")
    with house.office.begin() as tx:
        triggers.insert(tx, vars(TriggerRequest(
            slug="go", sequence_name="kept", tenant_id="default")))  # fmt: skip
    house.publish(EMIT, name="emits")
    emitter, winner = house.start(name="emits"), uuid7()
    settle, broke = house.pump._settle, []

    def breaks_once(batch: Any) -> Any:
        if not broke:
            broke.append(batch)
            raise RuntimeError("the batch breaks")
        return settle(batch)

    house.pump._settle = breaks_once  # type: ignore[method-assign]
    with closing(psycopg2.connect(house.database.owner_url)) as other:
        with other.cursor() as cursor:
            cursor.execute(TAKE, (str(winner),))
        thread = threading.Thread(target=house.work, args=(LANE,))
        thread.start()
        until(lambda: house.sql(BLOCKED, house.database.name), 1.9)
        other.commit()
        thread.join(30)
    assert house.state(emitter) == "completed"
    output = house.step(emitter, "emit").output
    assert (output["instance_id"], output["deduped"]) == (str(winner), True)
