"""inputs: what an instance is started with, held against what its sequence expects."""

from __future__ import annotations

from typing import Any, Final

from orch8.errors import Problem, Unprocessable
from orch8.runtime.library import Published

LANES: Final = {
    "Critical": "interactive", "High": "interactive", "Normal": "renewal", "Low": "bulk",
}  # fmt: skip


def validate(published: Published, context: Any) -> None:
    """Raises Unprocessable with every problem if the sequence's input schema refuses the data."""
    validator = published.sequence.input_schema
    if validator is None:
        return
    data = context.get("data") if isinstance(context, dict) else None
    problems = [
        Problem(
            "/context/data" + "".join(f"/{part}" for part in found.absolute_path),
            found.message[:300],
        )
        for found in validator.iter_errors(data)
    ]
    if problems:
        raise Unprocessable(
            f"context.data failed input_schema validation: {problems[0].message}", errors=problems
        )
