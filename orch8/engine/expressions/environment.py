"""What an expression can see while it is evaluated, as the caller must provide it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol


class Environment(Protocol):
    """The world of one evaluation. Values are JSON; nothing here changes while it runs."""

    def root(self, name: str) -> Any:
        """The value of a root such as context, data, input or a loop variable.

        Raises KeyError for a root that does not exist here.
        """

    def output(self, block_id: str) -> Any:
        """The output of a block as seen from here, None if it has none."""

    def now(self) -> datetime:
        """The business time, aware."""

    def entropy(self) -> float:
        """The next random number in [0, 1), for random() and uuid()."""
