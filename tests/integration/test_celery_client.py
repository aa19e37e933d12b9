"""A user's own Celery worker does steps and tells orch8 how they ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from orch8.client import Client
from orch8.client.caller import Caller
from orch8.client.celery import install
from orch8.client.reports import Dispatch, Reports
from orch8.dev.redis import EmbeddedRedis
from orch8.dev.stack import Stack, StackOptions
from orch8.errors import ConfigurationError

WITHIN = 20.0  # seconds
KEY = "5b2f0d0a-0000-4000-8000-000000000001"
PATIENCE = 2.0
USERS_APP = f"""
import os, time
from celery import Celery
from orch8.client import Declined, Refused, TryAgain
from orch8.client.celery import install

app = Celery("billing", broker=os.environ["BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True)
install(app, url=os.environ["API"], api_key="key", tenant=os.environ["TENANT"], patience={PATIENCE})

@app.task(name="billing.charge")
def charge(context, params, outputs, idempotency_key):
    return {{"status": "succeeded", "amount": context["data"]["amount"], "key": idempotency_key}}

@app.task(name="billing.decline")
def decline(**_):
    raise Declined({{"status": "failed"}})

@app.task(name="billing.refuse")
def refuse(**_):
    raise Refused("no such card", code="no_card", details={{"at": object}})

@app.task(name="billing.again")
def again(**_):
    raise TryAgain("the bank sleeps")

@app.task(name="billing.break")
def broken(**_):
    raise TimeoutError("read timed out")

@app.task(name="billing.retry", bind=True, max_retries=3)
def retry(self, **_):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return {{"tries": self.request.retries + 1}}

@app.task(name="billing.die")
def die(**_):
    os._exit(1)

@app.task(name="billing.hang", time_limit=1)
def hang(**_):
    time.sleep(60)

@app.task(name="billing.odd")
def odd(**_):
    return {{1, 2}}
"""


@dataclass
class Desk:
    """Stands in for the API: keeps what it is told, answers with the statuses it is given."""

    heard: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # then 200
    url: str = ""

    def about(self, step_id: str, least: int = 1) -> list[tuple[str, dict[str, Any]]]:
        """The verbs and bodies about a step, once there are so many."""
        deadline = time.monotonic() + WITHIN
        while True:
            found = [
                (path.rpartition("/")[2], body) for path, _, body in self.heard if step_id in path
            ]
            if len(found) >= least:
                return found
            assert time.monotonic() < deadline, f"{len(found)} reports about {step_id}: {found}"
            time.sleep(0.01)

    def answer(self) -> int:
        """The status of the next answer."""
        return self.statuses.pop(0) if self.statuses else 200


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk that listens."""
    with _listening() as found:
        yield found


class _listening:  # noqa: N801 - reads as a verb
    def __enter__(self) -> Desk:
        desk = Desk()

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                desk.heard.append((self.path, headers, json.loads(raw)))
                status = desk.answer()
                if status:  # 0 hangs up
                    self.send_response(status)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        desk.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return desk

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class UsersWorker:
    """The user's worker process, with Celery's usual pool of forked processes."""

    def __init__(self, folder: Path, broker: str, api: str, tenant: str) -> None:
        (folder / "billing.py").write_text(USERS_APP, encoding="utf-8")
        self.log = folder / "billing.log"
        said = {"BROKER": broker, "API": api, "TENANT": tenant, "PYTHONPATH": str(Path.cwd())}
        argv = (
            *(sys.executable, "-m", "celery", "-A", "billing", "worker", "-c", "1"),
            *("--hostname", "users@here", "--loglevel", "INFO", "--without-mingle"),
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                env=os.environ | said,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + WITHIN
        while b" ready." not in self.log.read_bytes():
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            assert self._process.poll() is None, self.log.read_text(encoding="utf-8")
            time.sleep(0.02)

    def stop(self) -> None:
        """The worker has ended."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)


@dataclass
class Billing:
    """The user's worker, the desk that it reports to, and the way orch8 sends it tasks."""

    desk: Desk
    worker: UsersWorker
    sender: Celery

    def send(self, task: str, *, epoch: int = 3, headers: bool = True, **options: Any) -> str:
        """The id of a step that was sent as the task."""
        step_id = str(uuid4())
        context = {"data": {"amount": 9900}}
        said = {"orch8_step_id": step_id, "orch8_epoch": epoch} if headers else {}
        self.sender.send_task(
            task,
            kwargs={"context": context, "params": None, "outputs": {}, "idempotency_key": KEY},
            headers=said,
            task_id=f"{step_id}-{epoch}",
            queue="celery",
            ignore_result=True,
            **options,
        )
        return step_id

    def heard(self, task: str, **options: Any) -> tuple[str, dict[str, Any]]:
        """What orch8 was told about a step that was sent as the task."""
        return self.desk.about(self.send(task, **options))[0]


@pytest.fixture(scope="module")
def billing(
    tmp_path_factory: pytest.TempPathFactory, redis_server: EmbeddedRedis
) -> Iterator[Billing]:
    """One worker for all tests of this file."""
    broker = redis_server.broker_url
    sender = Celery("orch8", broker=broker, set_as_current=False)
    with _listening() as desk:
        worker = UsersWorker(tmp_path_factory.mktemp("billing"), broker, desk.url, "acme")
        try:
            yield Billing(desk, worker, sender)
        finally:
            worker.stop()
            sender.close()


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "billing" in request.fixturenames:
        found: Billing = request.getfixturevalue("billing")
        found.desk.heard.clear()
        found.desk.statuses.clear()


def test_returned_value_is_the_output_of_the_step(billing: Billing) -> None:
    """The step completes under its epoch, reported by this worker with its key and tenant."""
    step_id = billing.send("billing.charge")
    verb, body = billing.desk.about(step_id)[0]
    assert verb == "complete"
    assert body == {
        "worker_id": "celery:users@here",
        "claim_epoch": 3,
        "output": {"status": "succeeded", "amount": 9900, "key": KEY},
    }
    path, headers, _ = billing.desk.heard[0]
    assert path == f"/api/v1/workers/tasks/{step_id}/complete"
    assert (headers["x-api-key"], headers["x-tenant-id"]) == ("key", "acme")


def test_declined_completes_the_step_as_declined(billing: Billing) -> None:
    """A provider's no is an end of the step, with its body."""
    verb, body = billing.heard("billing.decline")
    assert (verb, body["output"]) == ("complete", {"status": "failed", "outcome": "declined"})


def test_refused_fails_the_step_for_good(billing: Billing) -> None:
    """Details without a JSON form are told as text."""
    verb, body = billing.heard("billing.refuse")
    assert (verb, body["retryable"], body["code"]) == ("fail", False, "no_card")
    assert body["message"] == "no such card"
    assert isinstance(body["details"], str)


def test_try_again_fails_the_attempt_only(billing: Billing) -> None:
    """What surely did not happen may be tried again."""
    verb, body = billing.heard("billing.again")
    assert (verb, body["retryable"], body["message"]) == ("fail", True, "the bank sleeps")


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ("billing.break", "TimeoutError"),
        ("billing.die", "WorkerLostError"),
        ("billing.hang", "TimeLimitExceeded"),
        ("billing.odd", "not_json"),
    ],
)
def test_end_that_says_nothing_of_the_effect_is_unknown(
    billing: Billing, task: str, code: str
) -> None:
    """An exception, a dead process, a time limit or a result that is no JSON is never guessed."""
    verb, body = billing.heard(task)
    assert (verb, body["output"]["outcome"]) == ("complete", "unknown")
    assert body["output"]["error"]["code"] == code


def test_retry_of_celery_is_no_end(billing: Billing) -> None:
    """Two retries and a success are one report, under the epoch that was sent."""
    step_id = billing.send("billing.retry", epoch=7)
    billing.desk.about(step_id)
    billing.heard("billing.charge")  # whatever came of the retries has been told by now
    (verb, body), *more = billing.desk.about(step_id)
    assert (verb, body["output"], body["claim_epoch"]) == ("complete", {"tries": 3}, 7)
    assert more == []


def test_task_that_the_worker_does_not_have_is_told(billing: Billing) -> None:
    """A name that nobody registered does not leave the step waiting."""
    verb, body = billing.heard("billing.nothing")
    assert (verb, body["retryable"], body["code"]) == ("fail", True, "unknown_task")
    assert "'billing.nothing'" in body["message"]


def test_task_that_came_too_late_is_told(billing: Billing) -> None:
    """An expired task was never begun, and may be sent again."""
    verb, body = billing.heard("billing.charge", expires=-1)
    assert (verb, body["retryable"], body["code"]) == ("fail", True, "revoked")


def test_tasks_of_others_are_not_told(billing: Billing) -> None:
    """A task without orch8's headers is the user's own."""
    billing.send("billing.charge", headers=False)
    billing.heard("billing.charge")
    assert len(billing.desk.heard) == 1


def test_report_is_repeated_until_orch8_answers(billing: Billing) -> None:
    """A hang-up and an error of the server are passing; the third try is the same report."""
    billing.desk.statuses[:] = [0, 503]
    reports = billing.desk.about(billing.send("billing.charge"), least=3)
    assert reports[0] == reports[1] == reports[2]


def test_report_that_came_too_late_is_dropped(billing: Billing) -> None:
    """409 is logged and not repeated."""
    billing.desk.statuses[:] = [409]
    step_id = billing.send("billing.charge")
    billing.desk.about(step_id)
    billing.heard("billing.charge")
    assert len(billing.desk.about(step_id)) == 1
    assert f"step {step_id} (epoch 3) came too late" in billing.worker.log.read_text("utf-8")


def test_output_that_orch8_refuses_becomes_unknown(desk: Desk) -> None:
    """Something did happen: the step must not be taken for a failure."""
    desk.statuses[:] = [413]
    assert Reports(Caller(desk.url)).complete(Dispatch("s", 1, "w"), {"large": True})
    (_, first), (_, second) = desk.about("s", least=2)
    assert first["output"] == {"large": True}
    assert second["output"]["outcome"] == "unknown"


def test_report_is_given_up_after_its_patience() -> None:
    """With nobody there a report ends in time, and says so."""
    reports = Reports(Caller("http://127.0.0.1:9"), patience=0.5)
    began = time.monotonic()
    assert not reports.fail(Dispatch("s", 1, "w"), "no", retryable=False)
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://127.0.0.1"])
def test_install_refuses_an_address_that_is_none(url: str) -> None:
    """A wrong url is told when the worker starts, not when a charge ends."""
    with pytest.raises(ConfigurationError, match="the API's url"):
        install(Celery("users", set_as_current=False), url=url)


@pytest.mark.acceptance
@pytest.mark.xdist_group("stack")
def test_step_is_done_by_the_users_celery_worker(tmp_path: Path) -> None:
    """orch8 hands a step to the broker, the user's worker does it, and the instance goes on."""
    options = StackOptions(data=tmp_path / "stack", port=0, workers=1, tick=0.25, durable=False)
    environ = {name: v for name, v in os.environ.items() if not name.startswith("ORCH8_")}
    sequence = {
        "id": "billed",
        "blocks": [
            {"type": "step", "id": "pay", "handler": "celery:billing.charge"},
            {"type": "step", "id": "refused", "handler": "celery:billing.refuse"},
        ],
    }
    stack = Stack(options, environ)
    worker = None
    try:
        stack.start()
        api = Client(stack.urls.http)
        worker = UsersWorker(tmp_path, stack.urls.broker, stack.urls.http, "default")
        api.sequences.publish(sequence)
        started = api.instances.start("billed", {"amount": 5})
        found = api.instances.wait(started.id, within=WITHIN)
        outputs = {row.block_id: row for row in api.instances.outputs(started.id)}
        assert found.state == "failed"
        assert outputs["pay"].output["amount"] == 5
        assert outputs["refused"].error["code"] == "no_card"
    finally:
        if worker is not None:
            worker.stop()
        stack.stop()
        if stack.postgres is not None:
            stack.postgres.erase()
