"""The command line tells its settings without their secrets, and its errors in one line."""

from __future__ import annotations

import json

from click.testing import CliRunner

from orch8.cli import main
from orch8.commands_config import rows
from orch8.config import Settings


def test_config_lists_every_setting_with_its_meaning() -> None:
    """The list is complete, and an untouched setting says so."""
    found = rows({})
    assert len(found) == len(Settings.__dataclass_fields__)
    assert all(row.meaning and row.origin == "default" for row in found)


def test_config_hides_secrets_and_only_them() -> None:
    """A secret is hidden; of an address only the password is, wherever it stands."""
    env = {
        "ORCH8_KEY_SECRET": "s3cret",
        "ORCH8_DATABASE_URL": "postgresql://app:s3cret@db:5432/orch8",
        "ORCH8_DATABASE_OWNER_URL": "postgresql://db/orch8?user=o&password=s3cret",
        "ORCH8_BROKER_URL": "redis://:s3cret@broker:6379/0",
        "ORCH8_REDIS_URL": "redis://limiter:6379/1",
    }
    shown = {row.name: row.value for row in rows(env)}
    assert "s3cret" not in str(shown)
    assert shown["ORCH8_DATABASE_URL"] == "postgresql://app:***@db:5432/orch8"
    assert shown["ORCH8_BROKER_URL"] == "redis://:***@broker:6379/0"
    assert shown["ORCH8_REDIS_URL"] == "redis://limiter:6379/1"


def test_config_command_answers_programs_in_json() -> None:
    """The JSON has the four members of a row, and where the value comes from."""
    done = CliRunner().invoke(main, ["config", "--json"], env={"ORCH8_WORKER_WIDTH": "7"})
    width = next(r for r in json.loads(done.output) if r["name"] == "ORCH8_WORKER_WIDTH")
    assert (width["value"], width["origin"]) == (7, "environment")
    assert set(width) == {"name", "value", "origin", "meaning"}


def test_config_command_shows_people_a_table() -> None:
    """Names are whole, even on a narrow terminal."""
    done = CliRunner().invoke(main, ["config"])
    assert done.exit_code == 0
    assert "ORCH8_WORKER_REAPER_STALE_SECS" in done.output


def test_wrong_setting_ends_a_command_with_code_2() -> None:
    """The error is one line that names the variable."""
    done = CliRunner().invoke(main, ["config"], env={"ORCH8_WORKER_WIDTH": "many"})
    assert done.exit_code == 2
    assert done.stderr == "orch8: ORCH8_WORKER_WIDTH must be a number, not 'many'\n"


def test_migrate_without_a_database_says_which_variable_is_missing() -> None:
    """Nothing is guessed."""
    done = CliRunner().invoke(main, ["migrate"], env={"ORCH8_DATABASE_URL": ""})
    assert done.exit_code == 2
    assert "ORCH8_DATABASE_URL is not set" in done.stderr


def test_version_is_the_version_of_the_package() -> None:
    """One number, from the package itself."""
    done = CliRunner().invoke(main, ["version"])
    assert done.output.strip()
    assert done.exit_code == 0
