"""The shape of the project: floors, file length, names, and documents that match the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from orch8.blocks import BLOCKS, SCHEMAS
from orch8.config import ELSEWHERE, IGNORED, Settings
from orch8.definition import load
from orch8.definition.header import HeaderSchema
from orch8.engine.expressions.filters import SEED_FILTERS
from orch8.engine.expressions.functions import SEED_FUNCTIONS
from orch8.errors import Orch8Error
from orch8.handlers.registry import HANDLERS

ROOT = Path(__file__).parent.parent
PACKAGES = ("orch8", "api", "workers")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [str(path.relative_to(ROOT)) for path in SOURCES]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md"))
)

LONGEST_FILE = 400
VAGUE = re.compile(r"utils?|helpers?|common|manager|service|misc")
LATER = {name for name, schema in SCHEMAS.items() if schema.later}
ALIASES = {alias for schema in SCHEMAS.values() for alias in schema.aliases}
USABLE = sorted(set(SCHEMAS) - LATER - ALIASES)

# Who may import what: the library, and the modules (or packages) that may know it.
KEEPERS = {
    "sqlalchemy": ("orch8.storage",),
    "psycopg2": ("orch8.storage",),
    "alembic": ("orch8.storage",),
    "celery": ("workers", "api.wsgi", "orch8.client.celery"),  # the last runs in users' programs
    "kombu": ("workers", "api.wsgi"),
    "flask": ("api",),
    "redis": ("orch8.limits", "orch8.dev"),
    "pycurl": ("orch8.handlers",),
    "holidays": ("orch8.blocks.calendars",),
    "marshmallow": ("orch8.blocks", "orch8.definition", "api"),
}
# What would make the core depend on when, where and by chance it runs.
IMPURE = frozenset(
    {
        "asyncio", "io", "logging", "os", "pathlib", "random", "requests", "secrets", "shutil",
        "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request",
    }
)  # fmt: skip


# -- the code ------------------------------------------------------------------------------------
def test_imports_go_down_the_floors() -> None:
    """Every contract of import-linter is kept."""
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    ran = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("library", KEEPERS)
def test_library_is_known_to_its_keepers_only(library: str) -> None:
    """A library is imported on the floor that owns it and nowhere else."""
    keepers = KEEPERS[library]
    strangers = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in SOURCES
        for name in _imports(path)
        if _within(name, library) and not any(_within(_module(path), keeper) for keeper in keepers)
    ]
    assert strangers == []


@pytest.mark.parametrize("floor", ["engine", "blocks"])
def test_core_knows_no_outside(floor: str) -> None:
    """The core imports no clock, no chance, no network, no files and no log."""
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "orch8" / floor).rglob("*.py")
        for name in _imports(path)
        if any(_within(name, impure) for impure in IMPURE)
    ]
    assert found == []


@pytest.mark.parametrize("floor", ["engine", "blocks"])
def test_core_asks_no_clock(floor: str) -> None:
    """The core never calls now(), utcnow() or today(): time is a value that it is given."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "orch8" / floor).rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"datetime", "date"}
        and node.func.attr in {"now", "utcnow", "today"}
    ]
    assert found == []


def test_files_can_be_read_in_one_go() -> None:
    """No file of the product is longer than 400 lines."""
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in MODULES
    }
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_says_its_responsibility(module: str) -> None:
    """A module begins with a docstring whose first line is a whole, short sentence or clause."""
    said = ast.get_docstring(_tree(ROOT / module)) or ""
    first = said.partition("\n")[0].strip()
    assert first, f"{module} has no docstring"
    assert len(first) <= 100, f"{module}: {first}"


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_name_that_says_something(module: str) -> None:
    """No module or package is called utils, helpers, common, manager or service."""
    words = [word for part in Path(module).with_suffix("").parts for word in part.split("_")]
    assert [word for word in words if VAGUE.fullmatch(word)] == []


def test_classes_have_names_that_say_something() -> None:
    """No class is called a Manager, a Helper, a Service or a Util."""
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef)
        and re.search(r"(Manager|Helpers?|Service|Utils?|Common)$", node.name)
    ]
    assert found == []


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_block_type_has_tests(block: str) -> None:
    """Every block type that runs has a test file of its own."""
    assert (ROOT / "tests" / "unit" / f"test_blocks_{block}.py").is_file()


def test_errors_say_what_they_mean() -> None:
    """Every error has a docstring, which is its default message."""
    pending: list[type[Orch8Error]] = [Orch8Error]
    while pending:
        error = pending.pop()
        assert (error.__doc__ or "").strip(), error
        pending += error.__subclasses__()


def test_tests_state_truths() -> None:
    """Every test has a docstring that says what is true."""
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


# -- the documents -------------------------------------------------------------------------------
@pytest.mark.parametrize("block", USABLE)
def test_block_type_is_documented(block: str) -> None:
    """The README has a row and the language reference a section for every block type."""
    assert f"\n| `{block}` |" in _text("README.md")
    assert f"\n### {block}\n" in _text("deploy/docs/sequences.md")


def test_examples_of_blocks_can_be_published() -> None:
    """The example in each row of the README's table of blocks is a valid block of that type."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(\{.*\})` \|$", _text("README.md"), re.MULTILINE)
    assert sorted(name for name, _ in rows) == USABLE
    for name, example in rows:
        block = json.loads(example)
        assert block["type"] == name
        load({"id": "example", "blocks": [{"type": "step", "handler": "first"}, block]})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_json_in_documents_is_valid(document: str) -> None:
    """Every JSON listing parses, and every definition among them can be published."""
    for listing in re.findall(r"```json\n(.*?)```", _text(document), re.DOTALL):
        value = json.loads(listing)
        if "blocks" in value:
            load(value)
        elif "type" in value:
            load({"id": "example", "blocks": [value]})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_documents_is_valid(document: str) -> None:
    """Every Python listing compiles."""
    for listing in re.findall(r"```python\n(.*?)```", _text(document), re.DOTALL):
        compile(listing, document, "exec")


def test_functions_of_expressions_are_documented() -> None:
    """The reference lists exactly the functions and filters that there are."""
    reference = _text("deploy/docs/sequences.md")
    functions = re.search(r"^Functions: `(.*)`\.$", reference, re.MULTILINE)
    filters = re.search(r"^Filters behind `\|`: `(.*)`\.$", reference, re.MULTILINE)
    assert functions is not None
    assert filters is not None
    assert set(functions[1].split()) == set(SEED_FUNCTIONS) | {"filter"}
    assert set(filters[1].split()) == set(SEED_FILTERS)


def test_readme_shows_the_shipped_examples() -> None:
    """The README's definition and request are the ones in orch8/examples."""
    readme, examples = _text("README.md"), ROOT / "orch8" / "examples"
    definition = re.search(r"```json\n(.*?)```", readme, re.DOTALL)
    request = re.search(r"-d '(\{\n.*?\n\})'", readme, re.DOTALL)
    assert definition is not None
    assert request is not None
    shipped = (examples / "payment_dunning.json").read_text(encoding="utf-8")
    assert definition[1].strip() == shipped.strip()
    asked = json.loads((examples / "create_instance.json").read_text(encoding="utf-8"))
    assert json.loads(request[1]) == asked


@pytest.mark.parametrize("name", sorted(HANDLERS))
def test_builtin_handler_is_documented(name: str) -> None:
    """The README names every built-in handler and the reference says what it takes."""
    assert f"`{name}`" in _text("README.md")
    assert f"\n| `{name}` |" in _text("deploy/docs/handlers.md")


@pytest.mark.parametrize("block", [name for name in USABLE if name != "wait_signal"])
def test_member_of_block_is_documented(block: str) -> None:
    """Every member that a block can have is in the reference, those of later versions too."""
    reference = _text("deploy/docs/sequences.md")
    section = reference.partition(f"\n### {block}\n")[2].partition("\n### ")[0]
    section += reference.partition("\n### step\n")[2].partition("\n### Retry\n")[0]
    section += reference.partition("\n## Not there yet\n")[2]
    known = {f.data_key or name for name, f in SCHEMAS[block].fields.items()} - _UNTOLD
    assert [
        name for name in sorted(known) if f"`{name}`" not in section and f'"{name}"' not in section
    ] == []


# Members that mean the same as another one, or nothing: `id`, `type` and `when` are told once.
_UNTOLD = {"id", "type", "when", "retain_iterations"}


def test_what_is_not_there_yet_is_told() -> None:
    """Every block type and member that is refused as of a later version is listed."""
    listed = _text("deploy/docs/sequences.md").partition("\n## Not there yet\n")[2]
    later = LATER | {name for name, f in HeaderSchema().fields.items() if f.metadata.get("later")}
    assert [name for name in sorted(later) if f"`{name}`" not in listed] == []
    readme = _text("README.md").partition("\n## Where things stand\n")[2]
    assert [name for name in sorted(LATER) if f"`{name}`" not in readme] == []


def test_settings_are_documented() -> None:
    """The table in configuration.md is the one that config.py describes."""
    table = "".join(_settings_rows())
    assert table in _text("deploy/docs/configuration.md"), f"the table should be:\n{table}"


def test_variables_in_documents_exist() -> None:
    """Every ORCH8_ variable that a document names is in config.py."""
    known = {f.metadata[name] for f in fields(Settings) for name in ("env", "alias")}
    known |= {*IGNORED, *ELSEWHERE}
    named = {
        name
        for document in (*DOCUMENTS, "deploy/compose.yaml", "deploy/Dockerfile", "Makefile")
        for name in re.findall(r"ORCH8_[A-Z0-9_]*[A-Z0-9]", _text(document))
    }
    assert named - known == set()


def test_documents_point_to_files_that_exist() -> None:
    """Relative links and the module names in ARCHITECTURE.md lead somewhere."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", _text(document)):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"
    flow = _text("ARCHITECTURE.md").partition("\n## 3. ")[2]
    for target in re.findall(r"\b(?:runtime|storage|handlers|engine)/\w+\.py\b", flow):
        assert (ROOT / "orch8" / target).is_file(), target


def test_reasons_for_parking_are_in_the_runbook() -> None:
    """The runbook explains every reason for which a step can be parked."""
    runbook = _text("deploy/README.md").partition("\n## When a step is parked\n")[2]
    named = r'(?:park\(\s*run,\s*row,\s*|Park\(|"reason": )"(\w+)"'
    found = {
        reason
        for path in (ROOT / "orch8" / "runtime").glob("*.py")
        for reason in re.findall(named, path.read_text(encoding="utf-8"))
    }
    assert {"outcome_unknown", "poison"} <= found
    assert {reason for reason in found if f"| `{reason}` |" not in runbook} == set()


def test_processes_are_the_same_everywhere() -> None:
    """compose.yaml runs the processes of the Procfile, on the same queues."""
    compose = _text("deploy/compose.yaml")
    for line in _text("Procfile").splitlines():
        name, _, command = line.partition(": ")
        if name == "release":
            assert f"command: {command}\n" in compose
            continue
        assert f"\n  {name}:\n" in compose
        for option in re.findall(r"(?:-Q|-A|-P|-c|--blocking-threads) \S+", command):
            assert option in compose, f"{name}: {option}"


# -- reading -------------------------------------------------------------------------------------
def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _imports(path: Path) -> Iterator[str]:
    """What a file imports when it runs; imports for type checkers only do not count."""
    pending: list[ast.AST] = [_tree(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        pending += ast.iter_child_nodes(node)


def _settings_rows() -> Iterator[str]:
    for each in fields(Settings):
        value, about = each.default, each.metadata["doc"]
        if isinstance(value, bool):
            shown = str(value).lower()
        else:
            shown = (
                f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else ""
            )
        about += " Secret." if each.metadata["secret"] else ""
        about = about.replace("<", "&lt;").replace(">", "&gt;")
        yield f"| `{each.metadata['env']}` | {shown} | {about} |\n"


def test_documents_name_tests_that_exist() -> None:
    """What a document says is shown by a test is shown by one."""
    there = {
        found
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    named = {
        found
        for path in (ROOT / "deploy" / "docs").glob("*.md")
        for found in re.findall(r"`(test_\w+)`", path.read_text(encoding="utf-8"))
    }
    assert named <= there
