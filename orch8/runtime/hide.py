"""hide: secrets are taken out of values before somebody plays with templates over them.

Other rules than redact's, which is for reading: a value keeps its size and its type, and only texts
are hidden (CONTRACT 34).
"""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "[REDACTED]"
# Names are compared without case and punctuation: apiKey, api_key and API-KEY are one.
_PARTS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "authorization", "credential",
    "privatekey", "accesskey", "cookie", "signature", "bearer", "refresh", "otp", "pincode",
    "sessionid", "cardnumber", "securitycode",
)  # fmt: skip
_WHOLE: Final = frozenset({"auth", "key", "pass", "pwd", "jwt", "sid", "pan", "cvc", "cvv", "pin"})
_NOT_IN_NAME: Final = re.compile(r"[^a-z0-9]+")
_SHAPE: Final = re.compile(
    r"(?:sk_live_|sk_test_|rk_live_|rk_test_|ghp_|github_pat_|xox[abprs]-|AKIA|sk-ant-|glpat-"
    r"|whsec_|Bearer\s|eyJ[\w-]+\.[\w-]+\.[\w-]*$)"
)


def hide(value: Any, *, secret: bool = False) -> Any:
    """The JSON value with HIDDEN in place of texts that are secrets by the name of the member they
    stand in, however deep, or by how they look; ``secret``: all of its texts are.
    """
    if isinstance(value, dict):
        return {
            name: hide(each, secret=secret or is_secret(str(name))) for name, each in value.items()
        }
    if isinstance(value, list):
        return [hide(each, secret=secret) for each in value]
    if isinstance(value, str) and value and (secret or _SHAPE.match(value)):
        return HIDDEN
    return value


def is_secret(name: str) -> bool:
    """Whether what a member of this name holds is a secret."""
    plain = _NOT_IN_NAME.sub("", name.lower())
    return plain in _WHOLE or any(part in plain for part in _PARTS)


def has_hidden(value: Any) -> bool:
    """Whether something in the value was hidden."""
    if isinstance(value, dict):
        return any(map(has_hidden, value.values()))
    if isinstance(value, list):
        return any(map(has_hidden, value))
    return bool(value == HIDDEN)
