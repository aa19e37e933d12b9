"""The heap of a long-lived process: what stays for good is not looked through again and again."""

from __future__ import annotations

import gc
from typing import Final

# Objects made since the last look, looks at the young before one at the middle-aged, and of those
# before one at all. Python's own 700 makes a look for every few steps; one of 50,000 takes about
# five milliseconds.
THRESHOLDS: Final = (50_000, 20, 50)


def settle_down() -> None:
    """What the process has loaded so far is left alone by the garbage collector, and what it makes
    from now on is looked through in larger lots. To be called once its modules are imported.

    Our own values make next to no cycles: nearly everything is freed at once, by counting. Source
    of the need: a third of a worker's CPU went into looking (deploy/docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
