"""The story of the demo, act by act: what is done with the REST API, and what has to come of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from orch8.client.answers import Instance
from orch8.dev.demo.book import KEY_SHOWN, Moment, count, moments, opened_at, time_of
from orch8.dev.demo.screen import DAY, Screen
from orch8.dev.demo.stage import LEASE, WORKERS, Stage, Stuck, curl

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SEQUENCE: Final = "payment_dunning"
CHARGE, BACKUP = "charge_payment_method", "retry_with_backup_method"
CALLED: Final = [CHARGE, BACKUP, "send_payment_reminder", "downgrade_account"]
DUNNING_DAYS: Final = 3 + 7 + 30
DUNNING_WITHIN: Final = 40.0  # seconds
ASKED_AND_MADE: Final = [(1, 1), (2, 0), (2, 1)]
_PACE: Final = 0.06  # seconds that a day takes, so that it can be watched


class Story:
    """Plays on a stage, shows it on a screen."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage, self._screen = stage, screen
        self._wrong: list[str] = []
        self._payments: list[tuple[str, str]] = []  # what became of it, instance id

    def play(self) -> list[str]:
        """Everything has been shown; how the promise was broken, empty if it holds."""
        self._screen.title(
            "orch8: never charge twice, never lose a payment",
            "Postgres, Redis, API and Celery workers are real; the payment provider pretends.",
        )
        self._start()
        self._publish()
        self._succeed()
        self._dun()
        self._crash()
        self._count()
        return self._wrong

    def _start(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step(f"Start Postgres, Redis, the API, {WORKERS} workers, beat and a provider")
        with screen.waiting("starting"):
            stage.build()
        screen.say(f"orch8 answers at {stage.api.url}, the provider at {stage.provider.url}")
        screen.say(", ".join(f"{p.name} is {p.pid}" for p in stage.stack.processes), "dim")

    def _publish(self) -> None:
        path = EXAMPLES / f"{SEQUENCE}.json"
        self._screen.step("Publish the dunning sequence")
        self._curl("POST", "/sequences", f"@{_near(path)}")
        published = self._stage.api.sequences.publish(_read(path))
        self._screen.say(f"published {published.name}, version {published.version}")

    def _succeed(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step("A payment that succeeds")
        path = EXAMPLES / "create_instance.json"
        instance = self._open("succeeds", path)
        repeated = stage.api.instances.start(SEQUENCE, **_read(path))
        same = repeated.deduplicated and repeated.id == instance.id
        self._expect(same, "the same call twice started two instances")
        screen.say("the same call again: the same idempotency key, so the same instance")
        with screen.waiting("waiting for its end"):
            self._end(instance)
        if any(moment.what == "deferred" for moment in self._tell(instance)):
            screen.say("deferred: a limiter that has just started lets one window pass", "dim")

    def _dun(self) -> None:
        screen = self._screen
        screen.step(f"A card that is declined: {DUNNING_DAYS} days of dunning on a fast clock")
        self._script([{"do": "decline", "handler": name} for name in (CHARGE, BACKUP)])
        instance = self._open("is declined", self._invoice("2026-05"))
        self._curl("POST", "/clock", '{"advance": "24h"}', "    # and so on")
        with screen.days(DUNNING_DAYS) as show:
            for day in self._days(instance):
                show(day)
        ended = self._end(instance)
        days = ((ended.finished_at or ended.created_at) - ended.created_at) / DAY
        self._expect(round(days) == DUNNING_DAYS, f"the dunning took {days:.1f} days")
        called = [entry["handler"] for entry in self._book(instance.id)]
        self._expect(called == CALLED, f"the dunning called {', '.join(called)}")
        self._tell(instance)

    def _crash(self) -> None:
        stage, screen = self._stage, self._screen
        screen.step("A crash between a charge and its record")
        self._script([{"do": "commit_then_time_out", "handler": CHARGE, "times": 1}])
        instance = self._open("meets a crash", self._invoice("2026-06"))
        with screen.waiting("waiting until the provider has charged the card"):
            stage.until("the charge", lambda: [e for e in self._book(instance.id) if e["charged"]])
        pids = stage.crash_workers()
        killed_at = time.time()
        screen.command(f"kill -9 {' '.join(map(str, pids))}    # every worker")
        screen.say("The card is charged, and whoever was to write that down is dead.", "yellow")
        with screen.waiting(f"waiting for new workers and the end of the lease of {LEASE:g} s"):
            self._end(instance)
        entry = next(e for e in self._book(instance.id) if e["handler"] == CHARGE)
        key = entry["key"][:KEY_SHOWN]
        self._tell(
            instance,
            (entry["first_at"], "provider", "charged", f"the card is charged, key {key}"),
            (killed_at, "demo", "SIGKILL", f"all {WORKERS} workers, the answer on its way to them"),
            (entry["last_at"], "provider", "replayed", f"key {key} again: no second charge"),
        )
        met = (entry["asked"], entry["charged"], entry["replayed"])
        self._expect(met == (2, 1, 1), f"asked, charged and replayed were {met}, not (2, 1, 1)")

    def _count(self) -> None:
        self._screen.step("Count in the provider's own book")
        self._screen.command(f"curl {self._stage.provider.url}/ledger")
        rows = []
        for name, instance_id in self._payments:
            outputs = [each.raw for each in self._stage.api.instances.outputs(instance_id)]
            instance = self._stage.api.instances.get(instance_id)
            rows.append(count(name, instance.raw, outputs, self._book(instance_id)))
        self._screen.counts(rows)
        numbers = [(row.asked, row.made) for row in rows]
        self._expect(
            numbers == ASKED_AND_MADE, f"asked and made were {numbers}, not {ASKED_AND_MADE}"
        )
        self._expect(not any(row.duplicates for row in rows), "a card was charged twice")
        self._expect(not any(row.lost for row in rows), "a payment was lost")

    def _open(self, becomes: str, path: Path) -> Instance:
        """A new instance runs, started with the body in the file."""
        self._curl("POST", f"/sequences/{SEQUENCE}/instances", f"@{_near(path)}")
        instance = self._stage.api.instances.start(SEQUENCE, **_read(path))
        self._payments.append((becomes, instance.id))
        return instance

    def _end(self, instance: Instance) -> Instance:
        """The instance, which has come to its end."""
        ended = self._stage.until(
            f"the end of instance {instance.id}", lambda: self._stage.ended(instance.id)
        )
        self._expect(ended.state == "completed", f"instance {instance.id} has {ended.state}")
        return ended

    def _days(self, instance: Instance) -> Iterator[float]:
        """Days pass until the instance has ended, at most up to its next timer at a time."""
        api = self._stage.api
        deadline = time.monotonic() + DUNNING_WITHIN
        while not (found := api.instances.get(instance.id)).ended:
            if time.monotonic() >= deadline:
                raise Stuck(f"the dunning did not end: instance {found.id} is {found.state}")
            now = time_of(api.ask("GET", "/clock")["now"])
            left = found.next_fire_at - now if found.next_fire_at else timedelta()
            if left > DAY:
                api.ask("POST", "/clock", {"advance": "24h"})
            elif found.next_fire_at and left > timedelta(seconds=1):
                api.ask("POST", "/clock", {"at": found.next_fire_at.isoformat()})
            yield (now - instance.created_at) / DAY
            time.sleep(_PACE)

    def _script(self, rules: list[dict[str, Any]]) -> None:
        """The provider misbehaves like this from now on."""
        provider = self._stage.provider
        self._screen.command(curl(provider.url, "PUT", "/script", json.dumps(rules)))
        provider.misbehave(rules)

    def _curl(self, method: str, path: str, data: str, remark: str = "") -> None:
        """What a person would type to ask orch8 is on the screen."""
        self._screen.command(curl(self._stage.api.url, method, path, data) + remark)

    def _invoice(self, month: str) -> Path:
        """A file like the example, for another month."""
        text = (EXAMPLES / "create_instance.json").read_text(encoding="utf-8")
        return self._stage.write(f"invoice-{month}.json", text.replace("2026-04", month))

    def _book(self, instance_id: str) -> list[dict[str, Any]]:
        """What the provider's book says about an instance, the oldest first."""
        entries = self._stage.provider.ledger()
        return [entry for entry in entries if entry["subject"].startswith(instance_id)]

    def _tell(self, instance: Instance, *heard: tuple[float, str, str, str]) -> list[Moment]:
        """The timeline, with what was heard elsewhere: Unix time, who, what, why."""
        api = self._stage.api
        self._screen.command(f"curl {api.url}/instances/{instance.id}/timeline")
        told = api.instances.timeline(instance.id).raw
        opened = opened_at(told).timestamp()
        more = [
            Moment(timedelta(seconds=at - opened), who, what, CHARGE, why, mark=True)
            for at, who, what, why in heard
        ]
        nodes = [each.raw for each in api.instances.tree(instance.id)]
        lines = [*moments(told, nodes), *more]
        self._screen.timeline(lines)
        return lines

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self._wrong.append(otherwise)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _near(path: Path) -> str:
    """The path as someone would type it here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
