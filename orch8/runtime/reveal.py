"""reveal: a call carries secrets in place of its references, and its answer is rid of them again.

That happens in memory between claim and settle, for each dispatch anew: the row, its frozen request
and its fingerprint have the references. So a secret can be replaced while an attempt is open, and
its next dispatch carries the new one under the same idempotency key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

import orjson

from orch8.blocks.references import SCHEME, Path
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import CredentialUnusable
from orch8.runtime.office import Office
from orch8.runtime.preparing import Task
from orch8.storage import credentials
from orch8.storage.transaction import Tx

CUT: Final = "[credential]"
SHORTEST: Final = 8  # characters of a secret that is looked for: shorter ones occur by chance


@dataclass(frozen=True, slots=True)
class Revealed:
    """The parameters of one call, and the secrets in them; neither shows in a traceback."""

    params: Any = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def reveal(tx: Tx, task: Task) -> Revealed:
    """The parameters of the task's call with the secrets that its references mean.

    Raises CredentialUnusable for a reference to a credential that the tenant has not, that is
    disabled, or that has no such field.
    """
    assert task.request is not None
    params = task.request.params
    wanted = {path: _read(text) for path in task.references if (text := _at(params, path))}
    ids = {credential_id for credential_id, _ in wanted.values()}
    found = credentials.values(tx, task.row.tenant_id, ids) if ids else {}
    secrets: list[str] = []
    for path, (credential_id, name) in wanted.items():
        if credential_id not in found:
            raise CredentialUnusable(f"credential {credential_id!r} does not exist, or is disabled")
        value = _value(found[credential_id], credential_id, name)
        secrets += _texts(value)
        params = _with(params, path, value)
    return Revealed(params, tuple(secrets))


def reveal_now(office: Office, task: Task) -> Revealed:
    """As reveal, in a transaction of its own, which is over before the call is made."""
    with office.database.begin() as tx:
        return reveal(tx, task)


def no_vault(_task: Task) -> Revealed:
    """As reveal, in a process that has no vault."""
    raise CredentialUnusable("this process has no access to credentials")


def unusable(task: Task, problem: CredentialUnusable) -> Answer:
    """What comes of a call whose secrets are not there: it was not sent, and is not tried again; an
    earlier dispatch of the attempt may have been.
    """
    verdict = Verdict.REFUSED if task.row.dispatches <= 1 else Verdict.UNKNOWN
    return Answer(verdict, error={"message": problem.detail, "code": problem.code})


def scrubbed(answer: Answer, secrets: Iterable[str]) -> Answer:
    """The answer without the secrets, however the called one repeated them: as they are, escaped as
    in JSON or in addresses, or in base64.
    """
    hidden = sorted({form for each in secrets for form in _forms(each)}, key=len, reverse=True)
    if not hidden:
        return answer
    return replace(
        answer,
        output=_cut(answer.output, hidden),
        error=_cut(answer.error, hidden),
        evidence=_cut(answer.evidence, hidden),
    )


def _read(text: str) -> tuple[str, str | None]:
    """The id and the field, if any, that a reference names."""
    credential_id, slash, name = text.removeprefix(SCHEME).partition("/")
    if not credential_id or (slash and not name):
        raise CredentialUnusable(
            f"{text[:100]!r} is not a reference; write {SCHEME}<id> or {SCHEME}<id>/<field>"
        )
    return credential_id, name or None


def _value(text: str, credential_id: str, name: str | None) -> Any:
    # Digits alone stay a text: as a number a long key would lose its last ones.
    value: Any = text
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = text
    if name is None:
        return value
    if not isinstance(value, dict) or name not in value:
        raise CredentialUnusable(f"credential {credential_id!r} has no field {name[:100]!r}")
    return value[name]


def _at(params: Any, path: Path) -> str | None:
    """The reference at this place of the rendered parameters, if it still is one."""
    for step in path:
        try:
            params = params[step]
        except (KeyError, IndexError, TypeError):
            return None
    return params if isinstance(params, str) and params.startswith(SCHEME) else None


def _with(params: Any, path: Path, value: Any) -> Any:
    """The parameters with a value at a place; what is on the way is copied."""
    if not path:
        return value
    made = params.copy()
    made[path[0]] = _with(params[path[0]], path[1:], value)
    return made


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < SHORTEST:
        return
    yield secret
    yield orjson.dumps(secret).decode()[1:-1]
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode()


def _cut(value: Any, hidden: Iterable[str]) -> Any:
    if isinstance(value, str):
        for each in hidden:
            value = value.replace(each, CUT)
        return value
    if isinstance(value, Mapping):
        return {_cut(name, hidden): _cut(each, hidden) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(each, hidden) for each in value]
    return value
