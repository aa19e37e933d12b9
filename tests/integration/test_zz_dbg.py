from tests.integration.test_runtime_limits import CHARGE, ready
from tests.support.house import *
from tests.support.servers import postgres, redis_server
def test_dbg(house):
    order=[]
    import time
    t0=time.monotonic()
    house.handler("charge", lambda request: order.append((request.context["data"]["n"], round(time.monotonic()-t0,2))))
    house.publish({**CHARGE, "rate_limit": {"max": 2, "window_seconds": 0.4}})
    ids=[house.start({"n": n}) for n in range(14)]
    house.work()
    print(order, time.monotonic()-t0)
    for i in ids[:4]: print(house.step(i).handler, house.step(i).output, house.totals(), house.keys(), house.actions(i))
    print(house.advance())
    assert 0
