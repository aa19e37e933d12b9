"""CONTRACT 25: secrets go into the vault and are carried by calls; nobody is shown them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from orch8.handlers.python import TryAgain
from orch8.handlers.request import StepRequest
from orch8.runtime import pull, vault
from orch8.runtime.because import Because
from orch8.testing.misbehaviour import Do
from tests.support.api import Api, serving
from tests.support.house import House
from tests.support.servers import Database

SECRET = "sk-planted-0123456789abcdef"
TOKEN = "rt-planted-0123456789abcdef"
STRIPE = {"id": "stripe", "name": "Stripe, live", "kind": "api_key", "value": SECRET}
OAUTH = {
    "id": "oauth", "name": "PSP", "kind": "oauth2", "value": json.dumps({"access_token": SECRET}),
    "refresh_url": "https://8.8.8.8/token", "refresh_token": TOKEN, "description": "for payouts",
    "expires_at": "2999-01-01T00:00:00Z",
}  # fmt: skip
VIEW = {
    "id",
    "tenant_id",
    "name",
    "kind",
    "enabled",
    "has_refresh_token",
    "created_at",
    "updated_at",
}
KEY = "b2" * 32
ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}


@pytest.fixture
def api(postgres: Database) -> Iterator[Api]:
    """The app, with an encryption key."""
    with serving(postgres, encryption_key=KEY) as found:
        yield found


# -- the routes ----------------------------------------------------------------------------------
def test_kept_credential_is_shown_without_its_secrets(api: Api) -> None:
    """Members that were not given are left out."""
    plain = api.post("/credentials", STRIPE)
    assert set(plain) == VIEW
    assert (plain["enabled"], plain["has_refresh_token"]) == (True, False)
    full = api.post("/credentials", OAUTH)
    assert set(full) == VIEW | {"expires_at", "refresh_url", "description"}
    assert full["has_refresh_token"] is True


def test_no_answer_has_a_secret(api: Api) -> None:
    """Neither when it is kept, nor listed, read, changed or refused."""
    told = [api.send("POST", "/credentials", OAUTH).text]
    told.append(api.send("GET", "/credentials").text)
    told.append(api.send("GET", "/credentials/oauth").text)
    told.append(api.send("PATCH", "/credentials/oauth", {"value": SECRET + "2"}).text)
    told.append(api.send("POST", "/credentials", OAUTH).text)
    told.append(api.send("POST", "/credentials", {**OAUTH, "kind": "pin"}).text)
    assert not [text for text in told if SECRET in text or TOKEN in text]


def test_ids_are_unique_among_all_tenants(api: Api) -> None:
    """A second one is 409, whoever asks."""
    api.post("/credentials", STRIPE, headers=ACME)
    told = api.refused(409, "POST", "/credentials", STRIPE, headers=OTHER)
    assert told["error"].startswith("already exists: ")


@pytest.mark.parametrize("name", ["id", "name", "value"])
@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_members_are_400(api: Api, name: str, blank: str) -> None:
    """An id, a name and a value say something."""
    assert api.refused(400, "POST", "/credentials", {**STRIPE, name: blank})


@pytest.mark.parametrize("name", ["a b", "a/b", "ü", "x" * 256])
def test_ids_have_letters_digits_dots_hyphens_and_underscores(api: Api, name: str) -> None:
    """At most 255 of them, so that a reference can be told from its field."""
    assert api.refused(400, "POST", "/credentials", {**STRIPE, "id": name})
    api.post("/credentials", {**STRIPE, "id": "A-z_0.9" + "x" * 248})


def test_unknown_kind_is_422(api: Api) -> None:
    """api_key, oauth2 and basic are all there are; api_key if none is named."""
    assert api.refused(422, "POST", "/credentials", {**STRIPE, "kind": "pin"})
    assert api.refused(422, "POST", "/credentials", {"id": "x", "name": "x"})
    for kind in vault.KINDS:
        api.post("/credentials", {**STRIPE, "id": kind, "kind": kind})
    unnamed = {name: value for name, value in STRIPE.items() if name != "kind"}
    assert api.post("/credentials", unnamed)["kind"] == "api_key"


def test_refresh_url_needs_a_refresh_token(api: Api) -> None:
    """Also when the one comes later than the other."""
    without = {name: value for name, value in OAUTH.items() if name != "refresh_token"}
    assert api.refused(400, "POST", "/credentials", without)
    api.post("/credentials", {**STRIPE, "kind": "oauth2"})
    address = {"refresh_url": OAUTH["refresh_url"]}
    assert api.refused(400, "PATCH", "/credentials/stripe", address)


@pytest.mark.parametrize("url", ["http://127.0.0.1/t", "http://10.1.2.3/t", "ftp://8.8.8.8", "x"])
def test_refresh_url_is_public(api: Api, url: str) -> None:
    """Else a token could be sent into the installation's own network."""
    assert api.refused(400, "POST", "/credentials", {**OAUTH, "refresh_url": url})


def test_value_of_more_than_256_kib_is_413(postgres: Database) -> None:
    """One of just as much is kept."""
    with serving(postgres, encryption_key=KEY, max_body=2_000_000) as api:
        told = api.refused(413, "POST", "/credentials", {**STRIPE, "value": "x" * (262_144 + 1)})
        assert told["error"].startswith("payload too large: ")
        api.post("/credentials", {**STRIPE, "value": "x" * 262_144})


def test_blank_tenant_is_the_default_one(api: Api) -> None:
    """The caller's wins over a blank one; another than the caller's is 403."""
    assert api.post("/credentials", {**STRIPE, "tenant_id": " "})["tenant_id"] == "default"
    mine = {**STRIPE, "id": "mine", "tenant_id": ""}
    assert api.post("/credentials", mine, headers=ACME)["tenant_id"] == "acme"
    others = {**STRIPE, "id": "others", "tenant_id": "other"}
    assert api.refused(403, "POST", "/credentials", others, headers=ACME)


def test_list_is_an_array_of_a_tenants(api: Api) -> None:
    """The caller's tenant wins over the query; without either everybody's are listed."""
    for tenant in ("acme", "other"):
        api.post("/credentials", {**STRIPE, "id": tenant, "tenant_id": tenant})

    def listed(path: str, **more: Any) -> list[str]:
        return [each["id"] for each in api.get(path, **more)]

    assert listed("/credentials") == ["acme", "other"]
    assert listed("/credentials?limit=1") == ["acme"]
    assert listed("/credentials?tenant_id=other") == ["other"]
    assert listed("/credentials?tenant_id=other", headers=ACME) == ["acme"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_another_tenants_credential_is_404(api: Api, method: str) -> None:
    """As is one that does not exist; without a tenant any is found."""
    api.post("/credentials", STRIPE, headers=ACME)
    body = {"name": "mine now"} if method == "PATCH" else None
    assert api.refused(404, method, "/credentials/stripe", body, headers=OTHER)
    assert api.refused(404, method, "/credentials/nope", body)
    done = api.send(method, "/credentials/stripe", body)
    assert done.status_code == (204 if method == "DELETE" else 200)


def test_patch_changes_what_it_names(api: Api) -> None:
    """The rest stays; the answer is the view."""
    before = api.post("/credentials", OAUTH)
    changed = {"name": "new", "kind": "basic", "enabled": False, "description": "other"}
    after = api.send("PATCH", "/credentials/oauth", changed).json
    assert {**before, **changed, "updated_at": after["updated_at"]} == after


def test_what_was_done_is_audited_without_secrets(api: Api) -> None:
    """Who, what, which members, why."""
    by = {"X-Actor": "ann", **ACME}
    api.post("/credentials", {**STRIPE, "reason": "new account"}, headers=by)
    api.send("PATCH", "/credentials/stripe", {"value": SECRET + "2", "reason": "leak"}, headers=by)
    api.send("DELETE", "/credentials/stripe?reason=closed", headers=by)
    rows = api.rows("SELECT actor, action, reason, body FROM audit_log ORDER BY id")
    assert rows == [
        ("ann", "credential.created", "new account", {"credential": "stripe", "kind": "api_key"}),
        ("ann", "credential.changed", "leak", {"credential": "stripe", "members": ["value"]}),
        ("ann", "credential.deleted", "closed", {"credential": "stripe"}),
    ]


def test_secrets_are_not_kept_in_the_clear_unless_told_so(postgres: Database) -> None:
    """Without an encryption key only an installation that is insecure anyway takes them."""
    open_ended = {"require_tenant_header": False, "allow_no_tenant_isolation": True}
    with serving(postgres, insecure=False, api_key="k", **open_ended) as api:
        told = api.refused(503, "POST", "/credentials", STRIPE, headers={"x-api-key": "k"})
        assert "ORCH8_ENCRYPTION_KEY" in told["error"]
    with serving(postgres) as api:
        api.post("/credentials", STRIPE)


# -- references ----------------------------------------------------------------------------------
WHOLE, FIELD = "credentials://stripe", "credentials://oauth/access_token"


@pytest.fixture
def sealed(houses: Callable[..., House]) -> House:
    """A house whose vault has two credentials of the tenant default."""
    house = houses(encryption_key=KEY)
    keep(house, STRIPE)
    keep(house, {name: value for name, value in OAUTH.items() if name != "expires_at"})
    return house


def keep(house: House, credential: dict[str, Any], tenant: str = "default") -> None:
    """The credential is the tenant's."""
    given = {name: value for name, value in credential.items() if name != "id"}
    with house.office.begin() as tx:
        vault.create(house.office, tx, credential["id"], tenant, given, Because(actor="test"))


def change(house: House, credential_id: str, **members: Any) -> None:
    """The credential has these members."""
    because = Because(actor="test")
    with house.office.begin() as tx:
        vault.change(house.office, tx, credential_id, members, because, tenant_id=None)


def asked(house: House) -> list[StepRequest]:
    """What the handler "pay" is asked from now on; it repeats its parameters."""
    found: list[StepRequest] = []

    def pay(request: StepRequest) -> Any:
        found.append(request)
        return {"echo": request.params}

    house.handler("pay", pay)
    return found


def pay(**params: Any) -> dict[str, Any]:
    """A step that calls the handler."""
    return {"type": "step", "id": "pay", "handler": "pay", "effect": "money", "params": params}


def test_reference_is_the_secret_when_the_call_is_made(sealed: House) -> None:
    """A whole value, one field of a JSON value, and a JSON value as an object, at any depth."""
    calls = asked(sealed)
    sealed.run(pay(a=WHOLE, b=[{"c": FIELD}], d="credentials://oauth", e="no credentials://stripe"))
    assert calls[0].params == {
        "a": SECRET, "b": [{"c": SECRET}], "d": {"access_token": SECRET},
        "e": "no credentials://stripe",
    }  # fmt: skip


def test_reference_is_resolved_after_templates(sealed: House) -> None:
    """Its id may be rendered."""
    calls = asked(sealed)
    sealed.run(pay(key="credentials://{{ context.data.psp }}"), data={"psp": "stripe"})
    assert calls[0].params == {"key": SECRET}


def test_reference_that_came_from_outside_is_a_text(sealed: House) -> None:
    """Safer than the contract: who fills a context cannot ask for a secret by its name."""
    calls = asked(sealed)
    sealed.run(pay(note="{{ context.data.note }}"), data={"note": WHOLE})
    assert calls[0].params == {"note": WHOLE}


@pytest.mark.parametrize(
    "reference",
    ["credentials://nope", "credentials://oauth/nope", "credentials://stripe/x", "credentials://",
     "credentials://stripe/", "credentials://others", "credentials://disabled"],
)  # fmt: skip
def test_unusable_reference_fails_the_step_for_good(sealed: House, reference: str) -> None:
    """Unknown, another tenant's, disabled, or without the field: nothing is called or repeated."""
    keep(sealed, {**STRIPE, "id": "others"}, tenant="other")
    keep(sealed, {**STRIPE, "id": "disabled"})
    change(sealed, "disabled", enabled=False)
    calls = asked(sealed)
    instance_id = sealed.run({**pay(key=reference), "retry": {"max_attempts": 3}})
    row = sealed.step(instance_id, "pay")
    assert (row.state, row.error["code"]) == ("failed", "credential_unusable")
    assert calls == []


def test_changed_credential_is_carried_by_the_next_dispatch(sealed: House) -> None:
    """Of the same attempt, too: its key and its fingerprint are those of the reference."""
    calls: list[StepRequest] = []

    def busy(request: StepRequest) -> Any:
        calls.append(request)
        if len(calls) == 1:
            raise TryAgain("busy")
        return {}

    sealed.handler("pay", busy)
    retry = {"max_attempts": 2, "backoff": "2m", "jitter": 0}
    instance_id = sealed.run({**pay(key=WHOLE), "retry": retry})
    change(sealed, "stripe", value="another-" + SECRET)
    sealed.advance(timedelta(minutes=3))
    sealed.work()
    assert [call.params["key"] for call in calls] == [SECRET, "another-" + SECRET]
    assert len({call.idempotency_key for call in calls}) == 1
    assert sealed.step(instance_id, "pay").state == "completed"


def test_pull_worker_is_given_the_secret_with_its_task(houses: Callable[..., House]) -> None:
    """The row keeps the reference; without the credential the task fails before anybody has it."""
    house = houses(encryption_key=KEY, handler_url="")
    keep(house, STRIPE)
    house.publish({"type": "step", "id": "pay", "handler": "theirs", "params": {"key": WHOLE}})

    def polled() -> list[pull.PullTask]:
        with house.office.begin() as tx:
            return pull.poll(house.office, tx, tenant_id="default", handler="theirs", worker_id="w")

    house.start()
    assert [task.params for task in polled()] == [{"key": SECRET}]
    instance_id = house.start()
    change(house, "stripe", enabled=False)
    assert polled() == []
    assert house.step(instance_id, "pay").state == "failed"


def test_planted_secret_is_nowhere(sealed: House, capsys: pytest.CaptureFixture[str]) -> None:
    """A handler repeats its parameters in output, error and evidence; none of it is kept or told:
    not in any table, not in a log line.
    """
    said: list[str] = []

    def pay_and_tell(request: StepRequest) -> Any:
        said.append(request.params["key"])
        if len(said) % 2:
            return {"echo": request.params, "text": f"key={request.params['key']};"}
        raise ValueError(f"cannot charge with {request.params}")

    sealed.handler("pay", pay_and_tell)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            sealed.run(pay(key=WHOLE))
    sealed.provider_does(Do.FAIL_AFTER)
    sealed.run({**pay(key=WHOLE, amount=1, currency="USD"), "handler": "charge"})
    assert set(said) == {SECRET}
    tables = sealed.sql_as_admin("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    kept = [
        (table.tablename, row)
        for table in tables
        for row in sealed.sql_as_admin(f'SELECT t::text AS text FROM "{table.tablename}" t')
        if SECRET in row.text or SECRET.encode().hex() in row.text
    ]
    assert kept == []
    shown = capsys.readouterr()
    assert SECRET not in f"{logged}{shown.out}{shown.err}"
