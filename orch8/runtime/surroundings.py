"""What a run needs from around it besides its values: routes, keys, chance, new ids.

The pump fills it with the real things, the Simulator with its own. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from orch8.runtime.breakers import Breakers
from orch8.runtime.keys import KeyMaker
from orch8.runtime.queues import Queues
from orch8.runtime.routes import Route
from orch8.storage.cipher import OPEN, Cipher

if TYPE_CHECKING:
    from orch8.config import Settings


@dataclass(frozen=True)
class Surroundings:
    """``entropy`` gives numbers in [0, 1)."""

    settings: Settings
    keys: KeyMaker
    route: Callable[[str, str], Route]
    entropy: Callable[[], float]
    new_id: Callable[[], UUID]
    cipher: Cipher = OPEN
    queues: Queues = field(default_factory=Queues)
    breakers: Breakers = field(default_factory=Breakers)
