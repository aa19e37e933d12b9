"""What a tenant's API key may do, by method and path; and what only the root key may."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from api.mounting import bare
from orch8.errors import Forbidden
from orch8.runtime.apikeys import OPERATOR

Allows = Callable[[str, str], bool]  # of a method and a bare path

KEYS_ARE_ROOTS: Final = "API key management requires the root API key"
_ROOTS: Final = re.compile(
    r"/workers/commands(/.*)?|/workers/[^/]+/commands|/workers/version-pins(/.*)?"
    r"|/webhooks/(outbox|deliveries)(/.*)?|/cluster/nodes/[^/]+/drain|/clock",
    re.DOTALL,
)
_READS: Final = frozenset({"GET", "HEAD"})
_STARTS: Final = re.compile(r"/sequences/[^/]+/instances", re.DOTALL)
_SIGNALS: Final = re.compile(r"/instances/[^/]+/signals", re.DOTALL)


def _under(*roots: str) -> Allows:
    return lambda _method, path: any(path == r or path.startswith(f"{r}/") for r in roots)


def _worker(method: str, path: str) -> bool:
    # The list of handlers, and not their addresses: who may set those is sent every payment.
    return _under("/workers")(method, path) or path == "/handlers"


def _publisher(method: str, path: str) -> bool:
    # Publishing, and not starting: that moves money.
    own = path == "/sequences.json" or _under("/releases", "/plugins", "/sequences")(method, path)
    return own and _STARTS.fullmatch(path) is None


def _approver(method: str, path: str) -> bool:
    signals = method == "POST" and _SIGNALS.fullmatch(path) is not None
    return signals or _under("/approvals")(method, path)


ALLOWED: Final[Mapping[str, Allows]] = {
    OPERATOR: lambda _method, _path: True,
    "worker": _worker,
    "device": _under("/mobile"),
    "publisher": _publisher,
    "approver": _approver,
    "auditor": lambda method, _path: method in _READS,
}


def check(capabilities: Iterable[str], method: str, path: str) -> None:
    """A key with these capabilities may ask this. Raises Forbidden, whatever there is at the path.

    It may if any of them allows it; none allows what is the root key's.
    """
    wanted = bare(path)
    if _under("/api-keys")(method, wanted):
        raise Forbidden(KEYS_ARE_ROOTS)
    if _ROOTS.fullmatch(wanted) is not None:
        raise Forbidden("this requires the root API key")
    given = sorted(capabilities)
    if not any(ALLOWED[name](method, wanted) for name in given if name in ALLOWED):
        raise Forbidden(f"the API key is for {', '.join(given) or 'nothing'}; this needs another")
