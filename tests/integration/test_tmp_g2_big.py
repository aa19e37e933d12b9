import time
from orch8.runtime.forecast import forecast
from tests.support.house import House

def test_big(house: House) -> None:
    house.publish({"type": "step", "handler": "charge", "deadline": "10m", "rate_limit_key": "acquirer", "rate_limit": {"max": 95, "window_seconds": 1}, "send_window": {"start": "00:00", "end": "23:59"}}, sla={"max_duration": "1d"})
    first = house.start()
    cols_i = [r.column_name for r in house.sql("SELECT column_name FROM information_schema.columns WHERE table_name='instances' AND column_name <> 'id'")]
    cols_s = [r.column_name for r in house.sql("SELECT column_name FROM information_schema.columns WHERE table_name='steps' AND column_name NOT IN ('id','instance_id')")]
    house.sql("UPDATE steps SET due_at=NULL, limit_key='acquirer', queued_at=orch8_now(), deferrals=1, progress='{\"limit\": [\"acquirer\", 95, 1.0, 0.02]}' WHERE block_id <> '@sla'")
    house.sql("CREATE TABLE ids AS SELECT gen_random_uuid() AS id FROM generate_series(1, 100000)")
    ci = ", ".join(cols_i); cs = ", ".join(cols_s)
    house.sql(f"INSERT INTO instances (id, {ci}) SELECT ids.id, {', '.join('i.'+c for c in cols_i)} FROM ids, instances i WHERE i.id = %s", first)
    house.sql(f"INSERT INTO steps (id, instance_id, {cs}) SELECT gen_random_uuid(), ids.id, {', '.join('s.'+c for c in cols_s)} FROM ids, steps s WHERE s.instance_id = %s", first)
    for what in ("cold", "again", "analyzed"):
        if what == "analyzed":
            house.sql_as_admin("ANALYZE")
        t = time.perf_counter()
        with house.office.begin() as tx:
            (found,) = forecast(house.office, tx, tenant_id=None)
        print(what, time.perf_counter() - t, found.drain, found.will_miss, found.waiting, found.misses[:1])
