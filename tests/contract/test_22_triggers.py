"""CONTRACT 22: triggers start instances by a name; public webhooks are signed, and used up once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from api.triggers import WEBHOOKS
from orch8.runtime.inbound import signature
from orch8.runtime.reseal import reseal
from orch8.storage import triggers
from orch8.storage.cipher import Cipher
from orch8.storage.transaction import Database as pooled  # noqa: N813 - beside the tests' own
from tests.support.api import NOOP, Api, serving
from tests.support.servers import Database

KEY, NEW_KEY = "1" * 64, "2" * 64
ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}
SECRET = "a secret of acme's"
NEWER = {**NOOP, "timezone": "Europe/Vienna"}
STRICT = {**NOOP, "input_schema": {"type": "object", "required": ["plan"]}}


@pytest.fixture
def acme(api: Api) -> Api:
    """The app, in which acme has published a sequence."""
    api.post("/sequences", NOOP, headers=ACME)
    return api


@pytest.fixture
def keyed(postgres: Database) -> Iterator[Api]:
    """The app with a root key."""
    with serving(postgres, api_key="a root key") as found:
        yield found


def trigger(api: Api, slug: str = "renewals", *, status: int = 201, **members: Any) -> Any:
    """A new trigger of acme's."""
    body = {"slug": slug, "sequence_name": "noop_once", "tenant_id": "acme"} | members
    return api.post("/triggers", body, status=status)


def refused(api: Api, status: int, **members: Any) -> str:
    """What is said to a trigger with these members; null leaves one out."""
    body = {"slug": "s", "sequence_name": "noop_once", "tenant_id": "acme"} | members
    body = {name: value for name, value in body.items() if value is not None}
    error: str = api.refused(status, "POST", "/triggers", body)["error"]
    return error


def send(
    api: Api, slug: str = "renewals", body: Any = None, *, secret: str = SECRET, **headers: str
) -> TestResponse:
    """A webhook, signed with the secret; ``headers`` replace what is signed."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    stamp = headers.get("timestamp", str(int(time.time())))
    nonce = headers.get("nonce", uuid4().hex)
    signed = headers.get("signature", signature(secret, stamp, nonce, raw))
    given = {
        "x-trigger-timestamp": stamp, "x-trigger-nonce": nonce, "x-orch8-signature": signed,
        "User-Agent": "acme/1",
    }  # fmt: skip
    return api.send("POST", f"/webhooks/{slug}", data=raw, headers=given)


# -- create, read, delete ------------------------------------------------------------------------
def test_trigger_is_created_and_can_be_read(acme: Api) -> None:
    """201; a secret is never shown."""
    made = trigger(acme, secret=SECRET)
    assert made["secret"] == "[REDACTED]"
    assert made["namespace"] == "default"
    assert made["trigger_type"] == "webhook"
    assert made["enabled"] is True
    assert "version" not in made
    assert acme.get("/triggers/renewals") == made
    assert acme.get("/triggers?tenant_id=acme") == [made]
    assert "secret" not in trigger(acme, "other", version=1, config={"a": 1})


def test_slug_is_there_once_in_the_whole_installation(acme: Api) -> None:
    """409, also for another tenant."""
    trigger(acme)
    refused(acme, 409, slug="renewals")
    acme.post("/sequences", NOOP, headers=OTHER)
    refused(acme, 409, slug="renewals", tenant_id="other")


@pytest.mark.parametrize(
    "members",
    [
        {"slug": " "},
        {"slug": "x" * 256},
        {"slug": "a/b"},
        {"sequence_name": ""},
        {"sequence_name": "x" * 256},
        {"secret": ""},
    ],
)
def test_blank_and_overlong_members_are_400(acme: Api, members: Any) -> None:
    """An empty secret would be none."""
    assert next(iter(members)) in refused(acme, 400, **members)


def test_wrong_shape_is_422_and_an_unknown_sequence_404(acme: Api) -> None:
    """Also a sequence of another tenant."""
    assert "slug" in refused(acme, 422, slug=None)
    refused(acme, 422, sequence_name=None)
    refused(acme, 422, trigger_type="pigeon")
    refused(acme, 404, sequence_name="nope")
    refused(acme, 404, version=7)
    refused(acme, 404, tenant_id="other")


def test_deleted_trigger_is_gone(acme: Api) -> None:
    """204, then 404 for everything."""
    trigger(acme, secret=SECRET)
    assert acme.send("DELETE", "/triggers/renewals").status_code == 204
    acme.refused(404, "GET", "/triggers/renewals")
    acme.refused(404, "DELETE", "/triggers/renewals")
    acme.refused(404, "POST", "/triggers/renewals/fire", {})
    assert send(acme).status_code == 404


def test_trigger_of_another_tenant_is_404(acme: Api) -> None:
    """Without a header a trigger is found whosever it is."""
    trigger(acme)
    acme.refused(404, "GET", "/triggers/renewals", headers=OTHER)
    acme.refused(404, "DELETE", "/triggers/renewals", headers=OTHER)
    acme.refused(404, "POST", "/triggers/renewals/fire", {}, headers=OTHER)
    assert acme.get("/triggers", headers=OTHER) == []
    acme.get("/triggers/renewals")


def test_secret_is_in_no_audit_entry(acme: Api) -> None:
    """That there is one is."""
    trigger(acme, secret=SECRET)
    ((action, text),) = acme.rows(
        "SELECT action, body::text FROM audit_log WHERE action LIKE 'trigger.%%'"
    )
    assert action == "trigger.created"
    assert SECRET not in text
    assert "with_secret" in text


def test_secret_is_sealed_and_resealed(postgres: Database) -> None:
    """With ORCH8_ENCRYPTION_KEY; after a change of the key it still signs."""
    with serving(postgres, encryption_key=KEY) as api:
        api.post("/sequences", NOOP, headers=ACME)
        trigger(api, secret=SECRET)
        ((kept,),) = api.rows("SELECT secret FROM triggers")
        assert kept.startswith("enc:")
        assert send(api).status_code == 202
        rotated = Cipher(NEW_KEY, KEY)
        database = pooled(postgres.url, size=1, cipher=rotated)
        assert reseal(database, progress=lambda _: None) >= 1
        with database.begin() as tx:
            row = triggers.read(tx, "renewals", None)
        database.close()
        assert row is not None
        assert row.secret == SECRET
        ((again,),) = api.rows("SELECT secret FROM triggers")
        assert again.startswith(rotated.mark())


# -- fire ----------------------------------------------------------------------------------------
def test_fired_trigger_starts_an_instance(acme: Api) -> None:
    """The payload is its data, and its metadata tell what fired it."""
    trigger(acme)
    fired = acme.post("/triggers/renewals/fire", {"plan": "pro"})
    assert (fired["trigger"], fired["sequence_name"]) == ("renewals", "noop_once")
    instance = acme.get(f"/instances/{fired['instance_id']}")
    assert instance["tenant_id"] == "acme"
    assert instance["context"]["data"] == {"plan": "pro"}
    assert instance["metadata"] == {
        "_trigger": "renewals",
        "_trigger_type": "webhook",
        "_trigger_event": {"source": "http_fire"},
    }
    assert acme.announced


@pytest.mark.parametrize("payload", [[1], "text", 7, None])
def test_payload_may_be_any_json(acme: Api, payload: Any) -> None:
    """Not only an object."""
    trigger(acme)
    answer = acme.send(
        "POST", "/triggers/renewals/fire", data=json.dumps(payload), content_type="application/json"
    )
    instance = acme.get(f"/instances/{answer.get_json()['instance_id']}")
    assert instance["context"]["data"] == payload


def test_trigger_of_every_type_can_be_fired(acme: Api) -> None:
    """Wherever its events come from otherwise."""
    for kind in ("webhook", "nats", "file_watch", "event", "activepieces_poll"):
        trigger(acme, kind, trigger_type=kind)
        acme.post(f"/triggers/{kind}/fire", {})


def test_secret_has_to_be_known_to_fire(acme: Api) -> None:
    """401 for none and for another."""
    trigger(acme, secret=SECRET)
    for headers in ({}, {"x-trigger-secret": "another"}):
        acme.refused(401, "POST", "/triggers/renewals/fire", {}, headers=headers)
    acme.post("/triggers/renewals/fire", {}, headers={"x-trigger-secret": SECRET})


def test_disabled_trigger_is_400(acme: Api) -> None:
    """And takes in no webhook."""
    trigger(acme, secret=SECRET)
    acme.rows("UPDATE triggers SET enabled = false RETURNING slug")
    headers = {"x-trigger-secret": SECRET}
    acme.refused(400, "POST", "/triggers/renewals/fire", {}, headers=headers)
    assert send(acme).status_code == 404


def test_newest_version_that_is_not_deprecated_is_started(acme: Api) -> None:
    """When it fires; a stated version stays."""
    trigger(acme)
    trigger(acme, "first", version=1)
    acme.post("/sequences", NEWER, headers=ACME)
    versions = []
    for slug in ("renewals", "first"):
        fired = acme.post(f"/triggers/{slug}/fire", {})
        instance = acme.get(f"/instances/{fired['instance_id']}")
        versions.append(instance["sequence"]["version"])
    assert versions == [2, 1]


def test_payload_is_held_to_the_input_schema(api: Api) -> None:
    """422: better than a run that cannot end well."""
    api.post("/sequences", STRICT, headers=ACME)
    trigger(api)
    api.refused(422, "POST", "/triggers/renewals/fire", {})
    api.post("/triggers/renewals/fire", {"plan": "pro"})


def test_same_key_fires_once(acme: Api) -> None:
    """200 and the earlier instance; with another payload 422."""
    trigger(acme)
    headers = {"Idempotency-Key": "k"}
    first = acme.post("/triggers/renewals/fire", {"a": 1}, headers=headers)
    again = acme.post("/triggers/renewals/fire", {"a": 1}, headers=headers, status=200)
    assert again == first
    acme.refused(422, "POST", "/triggers/renewals/fire", {"a": 2}, headers=headers)


# -- public webhooks -----------------------------------------------------------------------------
def test_signed_webhook_starts_an_instance_without_an_api_key(keyed: Api) -> None:
    """202, bare and under /api/v1."""
    root = {"x-api-key": "a root key", **ACME}
    keyed.post("/sequences", NOOP, headers=root)
    body = {"slug": "renewals", "sequence_name": "noop_once", "secret": SECRET}
    keyed.post("/triggers", body, headers=root)
    answer = send(keyed, body={"plan": "pro"})
    assert answer.status_code == 202
    assert answer.get_json()["trigger"] == "renewals"
    path = f"/instances/{answer.get_json()['instance_id']}"
    instance = keyed.get(path, headers=root)
    assert instance["context"]["data"] == {"plan": "pro"}
    assert instance["metadata"]["_trigger_event"] == {
        "source": "public_webhook",
        "user_agent": "acme/1",
    }


def test_webhook_is_taken_in_once(acme: Api) -> None:
    """A nonce that was used is 401, whatever comes with it."""
    trigger(acme, secret=SECRET)
    nonce = uuid4().hex
    assert send(acme, body=1, nonce=nonce).status_code == 202
    assert send(acme, body=1, nonce=nonce).status_code == 401
    assert send(acme, body=2, nonce=nonce).status_code == 401
    trigger(acme, "another", secret=SECRET)
    assert send(acme, "another", nonce=nonce).status_code == 202


def test_webhook_that_could_not_be_taken_in_can_be_sent_again(acme: Api) -> None:
    """A nonce is used up by the instance that it starts, and by nothing less."""
    trigger(acme, secret=SECRET)
    nonce = uuid4().hex
    acme.send("POST", f"/sequences/{acme.get('/sequences')['items'][0]['id']}/deprecate")
    assert send(acme, nonce=nonce).status_code == 404
    acme.post("/sequences", NEWER, headers=ACME)
    assert send(acme, nonce=nonce).status_code == 202


@pytest.mark.parametrize("offset", [-400, -301, 62, 400])
def test_webhook_of_another_time_is_401(acme: Api, offset: int) -> None:
    """Older than five minutes, or more than one ahead."""
    trigger(acme, secret=SECRET)
    assert send(acme, timestamp=str(int(time.time()) + offset)).status_code == 401


@pytest.mark.parametrize("offset", [-290, 55])
def test_clocks_may_differ_a_little(acme: Api, offset: int) -> None:
    """Within the bounds it is taken in."""
    trigger(acme, secret=SECRET)
    assert send(acme, timestamp=str(int(time.time()) + offset)).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"timestamp": ""},
        {"timestamp": "yesterday"},
        {"timestamp": "9" * 30},
        {"nonce": ""},
        {"nonce": "x" * 15},
        {"nonce": "x" * 129},
        {"signature": ""},
        {"signature": "v1=" + "A" * 43},
    ],
)
def test_webhook_with_a_wrong_header_is_401(acme: Api, headers: dict[str, str]) -> None:
    """Each of the three has to be there, and right."""
    trigger(acme, secret=SECRET)
    assert send(acme, **headers).status_code == 401


def test_webhook_signed_with_another_secret_is_401(acme: Api) -> None:
    """So is one to a trigger that has none: nobody can sign for it."""
    trigger(acme, secret=SECRET)
    trigger(acme, "open")
    assert send(acme, secret="another").status_code == 401
    assert send(acme, "open", secret="").status_code == 401


def test_body_is_signed_as_it_was_sent(acme: Api) -> None:
    """One blank more, and the signature is wrong; JSON that is none is 400."""
    trigger(acme, secret=SECRET)
    stamp, nonce = str(int(time.time())), uuid4().hex
    signed = signature(SECRET, stamp, nonce, b'{"a":1}')
    answer = send(acme, body=b'{"a": 1}', timestamp=stamp, nonce=nonce, signature=signed)
    assert answer.status_code == 401
    assert send(acme, body=b"{").status_code == 400


def test_webhook_to_what_takes_in_none_is_404(acme: Api) -> None:
    """An unknown slug, and a trigger of another type."""
    trigger(acme, "files", trigger_type="file_watch", secret=SECRET)
    assert send(acme, "nope").status_code == 404
    assert send(acme, "files").status_code == 404


def test_flood_of_webhooks_is_429(acme: Api) -> None:
    """Before anything else is looked at; other slugs are not touched."""
    answers = []
    deadline = time.time() + 20
    while 429 not in answers:  # a second that ends in the midst of it admits the request
        assert time.time() < deadline
        for _ in range(WEBHOOKS.most):
            WEBHOOKS.admits(("127.0.0.1", "flooded"), time.time())
        answers.append(send(acme, "flooded").status_code)
    assert send(acme, "quiet").status_code == 404
