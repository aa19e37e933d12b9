"""The payments: kinds of providers and policies, the sequences that use them, and their load."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.load import create
from tests.support.stack import Client, ProviderProcess, World

WORK, ALONE = "renewal", "bulk"  # lanes; in the second one a process has one call at a time
AMOUNT: Final = 4900
SEARCH_LAG_MS: Final = 400
_TWINS: Final = 0.3  # of the invoices are charged by two instances
_MOST_DUE, _MOST_OPEN = 16, 160  # steps in a lane, instances under way: then the feeder waits
_LOOK: Final = 0.25

# Waits between two questions. The long tail is for attempts that are killed again and again.
_SOON: Final = ["500ms", "1s", "1s", *["2s"] * 90]


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider, what it can be asked for, and what the step says about it.

    ``way_out``: a key in force, a read-back or a webhook answers every doubt, so that no person is
    ever needed; ``lasting``: also when the key is too old. ``hostility`` are the provider's rules.
    """

    name: str
    provider: str  # which of the pretend ones
    on_unknown: Mapping[str, Any]
    members: Mapping[str, Any] = field(default_factory=dict)
    lasting: bool = True
    steps: Sequence[str] = ("charge", "fee")

    @property
    def lane(self) -> str:
        """Where its calls queue."""
        return ALONE if "priority" in self.members else WORK

    @property
    def handler(self) -> str:
        """The handler that moves the money."""
        return f"charge_{self.name}"

    def definition(self, *, fenced: bool = True, key_ttl: str | None = None) -> dict[str, Any]:
        """The sequence: money behind the fence of its invoice, step after step."""
        more: dict[str, Any] = {"fence": "invoice:{{context.data.invoice}}"} if fenced else {}
        if key_ttl is not None:
            more["idempotency"] = {"ttl": key_ttl}
        blocks = [self._step(step_id) | more for step_id in self.steps]
        return {"id": f"chaos_{self.name}", "blocks": blocks}

    def _step(self, step_id: str) -> dict[str, Any]:
        bill = {"amount": "{{context.data.amount}}", "currency": "EUR"}
        return {
            "type": "step", "id": step_id, "handler": self.handler, "effect": "money",
            "params": {**bill, "invoice": "{{context.data.invoice}}"}, "money": bill,
            "retry": {"max_attempts": 3, "backoff": "200ms", "on": ["failed_safe", "declined"]},
            "on_unknown": dict(self.on_unknown), **self.members,
        }  # fmt: skip


def _asks(name: str, schedule: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"handler": f"find_{name}", "schedule": list(schedule), "settle_delay": "1s", **more}


_NO_KEYS: Final = {"idempotency": {"replay": "none"}}
KEYED: Final = Kind(
    "keyed", "keys", {"policy": "retry_same_key"}, {"provider": "stripe_v1"}, lasting=False
)
THEN_ASKED: Final = Kind(
    "then_asked",
    "keys",
    {"policy": "retry_same_key", "then": "reconcile", **_asks("then_asked", _SOON)},
    {"provider": "stripe_v1"},
)
READ_BACK: Final = Kind(
    "read_back", "reads", {"policy": "reconcile", **_asks("read_back", _SOON)}, _NO_KEYS
)
# Its webhook is meant to come first: the search is asked late, and mostly cannot tell.
WEBHOOK: Final = Kind(
    "webhook", "tells", {"policy": "reconcile", **_asks("webhook", ["4s", *["2s"] * 90])}, _NO_KEYS
)
# Nothing but the webhook: sound only if whatever was claimed was also sent, so one call at a time.
ANNOUNCED: Final = Kind(
    "announced",
    "tells",
    {"policy": "park"},
    {**_NO_KEYS, "priority": "Low"},
    steps=("charge",),
)
KINDS: Final = {k.name: k for k in (KEYED, THEN_ASKED, READ_BACK, WEBHOOK, ANNOUNCED)}

DECLINES: Final[Mapping[str, Any]] = {"do": "decline", "chance": 0.2}
# How providers misbehave, by chance: each of these is survived without a person.
HOSTILITY: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "keys": (
        {"do": "commit_then_hang_up", "chance": 0.03},
        {"do": "commit_then_garble", "chance": 0.02},
        {"do": "hang_up", "chance": 0.02},
        {"do": "fail_before", "chance": 0.02},
        {"do": "fail_after", "chance": 0.02},
        DECLINES,
    ),
    "reads": (
        {"do": "search_cannot_tell", "chance": 0.1},
        {"do": "search_fail", "chance": 0.1},
        {"do": "commit_then_hang_up", "chance": 0.03},
        {"do": "hang_up", "chance": 0.02},
        DECLINES,
    ),
    "tells": (
        {"do": "search_cannot_tell", "chance": 0.5},
        {"do": "webhook_late", "chance": 0.6, "delay_ms": 3500},
        {"do": "webhook_duplicate", "chance": 0.2},
        {"do": "commit_then_hang_up", "chance": 0.03},
        DECLINES,
    ),
}
PROVIDERS: Final[Mapping[str, Sequence[str]]] = {
    "keys": ("--preset", "stripe_v1"),
    "reads": ("--replay", "none", "--search-lag-ms", str(SEARCH_LAG_MS)),
    "tells": ("--replay", "none", "--search-lag-ms", str(SEARCH_LAG_MS)),
}


class Feeder:
    """A thread that keeps payments coming until it is stopped, never too many at once.

    Each instance's key says ``<point>/<invoice>/<number>``, by which the checker knows it.
    """

    def __init__(
        self,
        world: World[ProviderProcess],
        kinds: Sequence[Kind],
        point: str,
        chance: random.Random,
    ) -> None:
        self.begun = 0
        self.problem: Exception | None = None
        self._world, self._kinds, self._point, self._chance = world, kinds, point, chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        """Payments are being begun."""
        self._thread.start()

    def stop(self) -> None:
        """No more are begun."""
        self._over.set()
        self._thread.join()
        if self.problem is not None:
            raise self.problem

    def _feed(self) -> None:
        try:
            with closing(Client(self._world.stack.urls.http, timeout=5.0)) as client:
                invoice = 0
                while not self._over.wait(_LOOK):
                    room = _room(self._world)
                    while kinds := [kind for kind in self._kinds if room[kind.lane] > 0]:
                        invoice += 1
                        kind = self._chance.choice(kinds)
                        room[kind.lane] -= self._begin(client, kind, f"{self._point}/{invoice}")
        except Exception as problem:  # noqa: BLE001 - told by stop()
            self.problem = problem

    def _begin(self, client: Client, kind: Kind, invoice: str) -> int:
        twins = 2 if self._chance.random() < _TWINS else 1
        for number in range(twins):
            body = {
                "idempotency_key": f"{invoice}/{number}",
                "context": {"data": {"invoice": invoice, "amount": AMOUNT}},
            }
            create(client, f"chaos_{kind.name}", body)
        self.begun += twins
        return twins


def open_instances(world: World[ProviderProcess]) -> int:
    """How many instances go on by themselves: no person is asked for, about them or about the one
    that holds their fence.
    """
    return int(world.rows(f"SELECT count(*) AS open FROM instances i WHERE {_OPEN}")[0]["open"])


_OPEN: Final = """finished_at IS NULL AND attention IS NULL AND NOT EXISTS (
    SELECT FROM steps s JOIN fences f USING (tenant_id, fence)
    JOIN steps h ON (h.instance_id, h.node_key) = (f.instance_id, f.node_key)
    WHERE s.instance_id = i.id AND s.waits_for = 'fence' AND h.state = 'parked')"""


def _room(world: World[ProviderProcess]) -> dict[str, int]:
    """How many instances may be begun now in each lane."""
    sql = f"""
    SELECT (SELECT count(*) FROM instances i WHERE {_OPEN}) AS open,
        count(*) FILTER (WHERE lane = '{WORK}') AS {WORK},
        count(*) FILTER (WHERE lane = '{ALONE}') AS {ALONE}
    FROM steps WHERE due_at <= orch8_now()"""
    (now,) = world.rows(sql)
    left = _MOST_OPEN - int(now["open"])
    return {lane: min(_MOST_DUE - int(now[lane]), left) for lane in (WORK, ALONE)}
