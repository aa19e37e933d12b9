"""The demo: three payments through a real orch8, one of them through a crash; then the count.

Run it with ``make demo``. It uses what a user has: the REST API, and a handler behind HTTP.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from orch8.dev.demo_screen import DAY, Count, Moment, Screen
from orch8.dev.demo_stage import LEASE, WORKERS, Stage, Stuck
from orch8.errors import Orch8Error

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
SEQUENCE: Final = "payment_dunning"
CHARGE, BACKUP = "charge_payment_method", "retry_with_backup_method"
CALLED: Final = [CHARGE, BACKUP, "send_payment_reminder", "downgrade_account"]
DUNNING_DAYS: Final = 3 + 7 + 30
INTERRUPTED: Final = 130  # exit status, as shells count it
_PACE: Final = 0.06  # seconds that a day takes, so that it can be watched


class Demo:
    """The story, act by act."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage, self._screen = stage, screen
        self._wrong: list[str] = []
        self._payments: list[tuple[str, dict[str, Any]]] = []

    def play(self) -> list[str]:
        """What turned out to be wrong with the promise; empty if it holds."""
        began = time.monotonic()
        self._screen.title(
            "orch8: never charge twice, never lose a payment",
            "a real Postgres, Redis, API and Celery workers; only the payment provider is pretended",
        )
        self._start()
        self._publish()
        self._succeed()
        self._dun()
        self._crash()
        self._count()
        self._screen.verdict(self._wrong, time.monotonic() - began)
        return self._wrong

    def _start(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step(f"Start Postgres, Redis, the API, {WORKERS} workers, beat and a provider")
        with screen.waiting("starting"):
            stage.build()
        screen.say(f"orch8 answers on {stage.api.url}, the provider on {stage.provider.url}")
        running = ", ".join(f"{p.name} {p.pid}" for p in stage.stack.processes)
        screen.say(f"processes: {running}", "dim")

    def _publish(self) -> None:
        stage, screen = self._stage, self._screen
        path = EXAMPLES / f"{SEQUENCE}.json"
        screen.step("Publish the dunning sequence")
        screen.command(stage.api.curl("POST", "/sequences", f"@{_shown(path)}"))
        _, published = stage.api.send("POST", "/sequences", _read(path))
        screen.say(f"{published['name']}, version {published['version']}")

    def _succeed(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step("A payment that goes through")
        path = EXAMPLES / "create_instance.json"
        instance = self._open("succeeds", path)
        again, repeated = stage.api.send("POST", f"/sequences/{SEQUENCE}/instances", _read(path))
        same = again == 200 and repeated["id"] == instance["id"]  # noqa: PLR2004
        self._check(same, "the same call twice started two instances")
        screen.say("the webhook came twice: the same idempotency key, the same instance")
        with screen.waiting("waiting for its end"):
            self._finish(instance)
        self._tell(instance)

    def _dun(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step(f"A card that is declined: {DUNNING_DAYS} days of dunning, on a fast clock")
        self._script([{"do": "decline", "handler": name} for name in (CHARGE, BACKUP)])
        instance = self._open("is declined", self._invoice("2026-05"))
        screen.command(stage.api.curl("POST", "/clock", '{"at": "<a day later>"}'))
        with screen.days(DUNNING_DAYS) as bar:
            for day in self._days(instance):
                bar.show(day)
        ended = self._finish(instance)
        days = (_time(ended["finished_at"]) - _time(ended["created_at"])) / DAY
        self._check(round(days) == DUNNING_DAYS, f"the dunning took {days:.1f} days")
        called = [e["handler"] for e in self._book(instance)]
        self._check(called == CALLED, f"the provider was called for {', '.join(called)}")
        self._tell(instance)

    def _crash(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step("A crash between the charge and its record")
        self._script([{"do": "commit_then_time_out", "handler": CHARGE, "times": 1}])
        instance = self._open("meets a crash", self._invoice("2026-06"))
        with screen.waiting("waiting until the provider has charged the card"):
            stage.until("the charge", lambda: [e for e in self._book(instance) if e["charged"]])
        pids = stage.crash_workers()
        killed_at = time.time()
        state = stage.api.get(f"/instances/{instance['id']}")["state"]
        screen.say("The card is charged. The provider's answer is on its way; orch8 has no record.")
        screen.command(f"kill -9 {' '.join(map(str, pids))}    # every worker")
        screen.say(f"orch8 shows the instance as {state}; the charge is in doubt, not forgotten")
        with screen.waiting(f"waiting for new workers, and for the lease of {LEASE:g} s to end"):
            self._finish(instance)
        entry = next(e for e in self._book(instance) if e["handler"] == CHARGE)
        key = entry["key"][:8]
        self._tell(
            instance,
            _heard(instance, entry["first_at"], "card charged", f"key {key}", who="provider"),
            _heard(instance, killed_at, "SIGKILL", f"all {WORKERS} workers", who="you"),
            _heard(instance, entry["last_at"], "replayed", f"key {key} again, no second charge"),
        )
        counted = (entry["asked"], entry["charged"], entry["replayed"])
        self._check(counted == (2, 1, 1), f"asked, charged, replayed were {counted}, not 2, 1, 1")

    def _count(self) -> None:
        self._screen.step("Count, in the provider's own book")
        self._screen.command(f"curl {self._stage.provider.url}/ledger")
        rows = [self._judge(name, instance) for name, instance in self._payments]
        self._screen.counts(rows)
        made = [(row.asked, row.made) for row in rows]
        self._check(made == [(1, 1), (2, 0), (2, 1)], f"asked and made were {made}")
        self._check(not any(row.duplicates for row in rows), "a card was charged twice")
        self._check(not any(row.lost for row in rows), "a payment was lost")

    def _judge(self, name: str, instance: dict[str, Any]) -> Count:
        """Lost is a charge that orch8 has no record of, and an instance that has not completed."""
        book = [e for e in self._book(instance) if e["handler"] in {CHARGE, BACKUP}]
        path = f"/instances/{instance['id']}"
        outputs = {row["node_key"]: row["output"] for row in self._stage.api.get(f"{path}/outputs")}
        charged: dict[str, int] = {}
        for entry in book:
            step = entry["subject"].partition("/")[2]
            charged[step] = charged.get(step, 0) + entry["charged"]
        known = {s for s in outputs if (outputs[s] or {}).get("status") == "succeeded"}
        unrecorded = sum(1 for step, times in charged.items() if times and step not in known)
        unfinished = self._stage.api.get(path)["state"] != "completed"
        return Count(
            name,
            asked=sum(e["asked"] for e in book),
            made=sum(e["charged"] for e in book),
            declined=sum(e["declined"] for e in book),
            duplicates=sum(times - 1 for times in charged.values() if times > 1),
            lost=unrecorded + unfinished,
        )

    def _open(self, name: str, path: Path) -> dict[str, Any]:
        """A new instance runs, started with the body in the file."""
        route = f"/sequences/{SEQUENCE}/instances"
        self._screen.command(self._stage.api.curl("POST", route, f"@{_shown(path)}"))
        _, instance = self._stage.api.send("POST", route, _read(path))
        self._payments.append((name, instance))
        return dict(instance)

    def _finish(self, instance: dict[str, Any]) -> dict[str, Any]:
        """The instance, which has ended, completed."""
        ended = self._stage.until(
            f"instance {instance['id']} to end", lambda: self._stage.ended(instance["id"])
        )
        self._check(ended["state"] == "completed", f"{instance['id']} has {ended['state']}")
        return ended

    def _days(self, instance: dict[str, Any]) -> Iterator[float]:
        """Days pass until the instance has ended, none of them beyond the next timer."""
        api, path = self._stage.api, f"/instances/{instance['id']}"
        opened = _time(instance["created_at"])
        deadline = time.monotonic() + 3 * self._stage_patience()
        while not (found := api.get(path))["finished_at"]:
            if time.monotonic() >= deadline:
                raise Stuck(f"the dunning hangs: {path} is {found['state']}")
            now = _time(api.get("/clock")["now"])
            fires = found["next_fire_at"]
            if fires is not None and _time(fires) - now > timedelta(seconds=1):
                now = min(_time(fires), now + DAY)
                api.send("POST", "/clock", {"at": now.isoformat()})
            yield (now - opened) / DAY
            time.sleep(_PACE)
        yield DUNNING_DAYS

    def _stage_patience(self) -> float:
        return 20.0

    def _script(self, rules: list[dict[str, Any]]) -> None:
        """The provider misbehaves like this from now on."""
        provider = self._stage.provider
        self._screen.command(provider.curl("PUT", "/script", json.dumps(rules)))
        provider.send("PUT", "/script", rules)

    def _invoice(self, month: str) -> Path:
        """A file like the example, for another month."""
        text = json.dumps(_read(EXAMPLES / "create_instance.json")).replace("2026-04", month)
        return self._stage.write(f"invoice-{month}.json", json.loads(text))

    def _book(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        """What the provider's book says about an instance, the oldest first."""
        entries = self._stage.provider.get("/ledger")["entries"]
        return [e for e in entries if e["subject"].startswith(instance["id"])]

    def _tell(self, instance: dict[str, Any], *more: Moment) -> None:
        path = f"/instances/{instance['id']}"
        self._screen.command(f"curl {self._stage.api.url}{path}/timeline")
        told = self._stage.api.get(f"{path}/timeline")
        nodes = {node["node_key"]: node for node in self._stage.api.get(f"{path}/tree")}
        moments = [_moment(entry, told, nodes) for entry in told["entries"]]
        self._screen.timeline("", [*moments, *more])

    def _check(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001
        if not holds:
            self._wrong.append(otherwise)
