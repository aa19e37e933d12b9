"""What a worker process keeps of instances that it has moved on: nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable

from tests.support.house import House

INSTANCES = 20


def test_runs_are_gone_without_the_collector(houses: Callable[..., House]) -> None:
    """Its thresholds are high (runtime/heap.py), so circles would add up to hundreds of MB."""
    house = houses()
    house.handler("pay", lambda _: {"paid": True})
    house.publish(*({"type": "step", "id": f"s{n}", "handler": "pay"} for n in range(5)))
    house.start({})
    house.work()  # what is kept of the definition is made once
    for _ in range(INSTANCES):
        house.start({})
    gc.collect()
    gc.disable()
    try:
        house.work()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(each).__name__ for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left.isdisjoint({"Run", "Snapshot", "StepRow", "InstanceRow", "Changes"})
