"""The names of the contract's settings: each has an effect, or is told to have none."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from orch8.cli import main
from orch8.config import IGNORED, Settings, remarks

ROOT = Path(__file__).parents[2]
# Every name in the contract: what is set, and the setting that it becomes.
CONTRACT: Mapping[str, tuple[str, str, object]] = {
    "ORCH8_HTTP_ADDR": ("0.0.0.0:9000", "http_addr", "0.0.0.0:9000"),
    "ORCH8_DATABASE_URL": ("postgresql://db/o", "database_url", "postgresql://db/o"),
    "ORCH8_API_KEY": ("k", "api_key", "k"),
    "ORCH8_REQUIRE_TENANT_HEADER": ("false", "require_tenant_header", False),
    "ORCH8_ALLOW_NO_TENANT_ISOLATION": ("1", "allow_no_tenant_isolation", True),
    "ORCH8_CORS_ORIGINS": ("https://a", "cors_origins", "https://a"),
    "ORCH8_MAX_CONCURRENT_REQUESTS": ("7", "max_requests", 7),
    "ORCH8_RATE_LIMIT_RPS": ("7", "max_requests", 7),
    "ORCH8_ENCRYPTION_KEY": ("ab" * 32, "encryption_key", "ab" * 32),
    "ORCH8_OLD_ENCRYPTION_KEY": ("cd" * 32, "old_encryption_key", "cd" * 32),
    "ORCH8_HANDLER_URL": ("http://h", "handler_url", "http://h"),
    "ORCH8_TICK_INTERVAL_MS": ("100", "tick_interval_ms", 100),
    "ORCH8_WORKER_REAPER_STALE_SECS": ("2.5", "worker_reaper_stale", 2.5),
    "ORCH8_WEBHOOK_URLS": ("http://a,http://b", "webhook_urls", "http://a,http://b"),
    "ORCH8_WEBHOOK_SECRET": ("s", "webhook_secret", "s"),
    "ORCH8_ALLOW_INTERNAL_URLS": ("true", "allow_internal_urls", True),
    "ORCH8_SSE_MAX": ("2", "sse_max", 2),
    "ORCH8_MAX_STEPS_PER_INSTANCE": ("9", "max_steps", 9),
    "ORCH8_ENV_LABEL": ("prod", "env_label", "prod"),
    "ORCH8_ENV_COLOR": ("red", "env_color", "red"),
}
WITHOUT_EFFECT = (
    "ORCH8_CRON_TICK_SECS", "ORCH8_WORKER_REAPER_TICK_SECS", "MAX_INSTANCES_PER_TENANT",
    "ORCH8_ARTIFACT_BACKEND",
)  # fmt: skip


@pytest.mark.parametrize("name", CONTRACT)
def test_name_of_the_contract_is_read(name: str) -> None:
    """The value arrives under the setting's own name, and nothing is remarked."""
    given, member, expected = CONTRACT[name]
    assert getattr(Settings.from_env({name: given}), member) == expected
    assert remarks({name: given}) == []


@pytest.mark.parametrize("member", [f.name for f in fields(Settings)])
def test_setting_has_an_effect(member: str) -> None:
    """Something outside config.py reads it; the environment of `orch8 dev` counts by its name."""
    env = next(f.metadata["env"] for f in fields(Settings) if f.name == member)
    readers = [
        path
        for package in ("orch8", "api", "workers")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "config.py" and _reads(path, member, env)
    ]
    assert readers != []


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_name_without_effect_is_told(name: str) -> None:
    """The process starts, and says why the value changes nothing."""
    Settings.from_env({name: "1"})
    (remark,) = remarks({name: "1"})
    assert remark == f"{name} has no effect: {IGNORED[name]}"


def test_unknown_name_is_told_with_the_one_that_was_meant() -> None:
    """A slip of the pen does not pass for a setting; other programs' names are none of ours."""
    assert remarks({"ORCH8_WEBHOOK_URL": "http://a", "PATH": "/bin"}) == [
        "ORCH8_WEBHOOK_URL is not known; did you mean ORCH8_WEBHOOK_URLS?"
    ]
    assert remarks({"ORCH8_QQ": "1"}) == [
        "ORCH8_QQ is not known; `orch8 config` lists every setting"
    ]
    assert remarks({"ORCH8_URL": "http://a", "ORCH8_TENANT": "t"}) == []


def test_config_command_tells_remarks_apart_from_the_list() -> None:
    """On standard error, so that programs can read the rest."""
    done = CliRunner().invoke(main, ["config", "--json"], env={"ORCH8_CRON_TICK_SECS": "1"})
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: ORCH8_CRON_TICK_SECS has no effect")


def _reads(path: Path, member: str, env: str) -> bool:
    text = path.read_text(encoding="utf-8")
    if f'"{env}"' in text:
        return True
    return member in text and any(
        isinstance(node, ast.Attribute) and node.attr == member
        for node in ast.walk(ast.parse(text))
    )
