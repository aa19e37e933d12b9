"""money_lint: every remark about money that a definition deserves, each with a fix to paste."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch8.blocks.step import Step
from orch8.definition.findings import Findings
from orch8.definition.money_lint.branches import branch_remarks, reading
from orch8.definition.money_lint.flow import Danger, dangers
from orch8.definition.money_lint.keys import key_remarks
from orch8.definition.money_lint.place import Places
from orch8.definition.money_lint.steps import Suggested, effect_remarks, step_remarks
from orch8.definition.money_lint.words import about_paying
from orch8.definition.outline import Node, Outline
from orch8.engine.expressions import Dialect
from orch8.errors import Problem


def money_lint(
    found: Outline,
    findings: Findings,
    body: Mapping[str, Any],
    references: Mapping[str, frozenset[str]],
) -> None:
    """Every remark about money is in ``findings``.

    ``references`` are, for each block, the blocks whose outputs it reads.
    """
    dialect = Dialect.CONTRACT if findings.contract else Dialect.SEED
    places, suggested = Places(found), Suggested(found, body)
    for node in found.nodes:
        if isinstance(node.block, Step):
            for remark in step_remarks(node, node.block, suggested):
                _warn(findings, node, *remark)
            for remark in key_remarks(node, node.block, places.loops(node)):
                _warn(findings, node, *remark)
    for node, remark in effect_remarks(found):
        _warn(findings, node, *remark)
    named = set()
    told = _hears_of_payments(body)
    for danger in dangers(found, dialect):
        if danger.again or not told:
            named.add(danger.payment)
            _warn(findings, danger.node, *_danger(danger, places, dialect))
    for node, remark in branch_remarks(found, places, references, dialect, named):
        _warn(findings, node, *remark)


def _warn(findings: Findings, node: Node, pointer: str, message: str, hint: str, code: str) -> None:
    findings.warn(Problem(node.pointer + pointer, node.owner + message, hint, code))


def _danger(danger: Danger, places: Places, dialect: Dialect) -> tuple[str, str, str, str]:
    given = danger.payment.given or ""
    outcome = reading(given, dialect, "outcome")
    paid, not_paid = (f"{{{{{outcome} {is_} 'succeeded'}}}}" for is_ in ("==", "!="))
    does = "charges again" if danger.again else "can still run"
    end = f'{{"type": "end", "outcome": "paid", "when": "{paid}"}}'
    if danger.known:
        why, hint = f'when "{given}" is known to have succeeded', f"put {end} before it"
    else:
        why = f'although "{given}" may have succeeded: no condition in between settles how it ended'
        hint = f'put {end} behind "{given}"'
    if places.one_of_many(danger.payment):  # an end would take the others with it
        hint = f'"when": "{not_paid}"'
    return "", f"{does} {why}", hint, "money.charged_again" if danger.again else "money.downgrade"


def _hears_of_payments(body: Mapping[str, Any]) -> bool:
    """Whether the run is interrupted when a payment comes in, by whatever road."""
    given = body.get("interrupts")
    return any(
        isinstance(each, dict) and about_paying(str(each.get("signal"))) and _ends(each)
        for each in (given if isinstance(given, list) else ())
    )


def _ends(interrupt: Mapping[str, Any]) -> bool:
    blocks = interrupt.get("blocks")
    return isinstance(blocks, list) and any(
        isinstance(each, dict) and each.get("type") == "end" for each in blocks
    )
