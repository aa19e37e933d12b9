"""Blocks that move money, and the remarks that documents made of them earn."""

from __future__ import annotations

from typing import Any

from orch8.definition import load
from tests.support.documents import seed

DOUBT = {"policy": "reconcile", "handler": "find_charge", "then": "park"}
MONEY = {"amount": "{{context.data.amount_minor}}", "currency": "{{context.data.currency}}"}
SOUND = {
    "type": "step",
    "id": "charge",
    "handler": "charge",
    "effect": "money",
    "fence": "invoice:{{context.data.invoice_id}}",
    "on_unknown": DOUBT,
    "money": MONEY,
}
RETRY = {**SOUND, "id": "retry", "handler": "retry_charge"}
PAID, NOT_PAID = (
    "{{outputs.charge.outcome == 'succeeded'}}",
    "{{outputs.charge.outcome != 'succeeded'}}",
)
DOWN = {"type": "step", "handler": "downgrade_account"}
WAIT = {"type": "wait", "delay": {"days": 3}}
END = {"type": "end", "outcome": "paid"}
MAIL = {"type": "step", "handler": "send_email", "effect": "notify"}
END_IF_PAID = {**END, "when": PAID}
CHECK = {"type": "step", "id": "check", "handler": "get_invoice", "effect": "read"}
IF_CHECKED = {**END, "when": "{{outputs.check.status == 'paid'}}"}


def router(*routes: tuple[str, list[Any]], default: list[Any] | None = None) -> dict[str, Any]:
    given: dict[str, Any] = {
        "type": "router",
        "routes": [{"condition": condition, "blocks": blocks} for condition, blocks in routes],
    }
    return given if default is None else {**given, "default": default}


def loop(until: str, *body: Any, **more: Any) -> dict[str, Any]:
    return {"type": "loop", "until": until, "max_iterations": 5, "body": list(body), **more}


def remarks(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The codes, without ``money.``, and pointers of the remarks about money, in document order."""
    return [
        (each.code.removeprefix("money."), each.pointer)
        for each in load(body).warnings
        if each.code.startswith("money.")
    ]


def on(*blocks: Any, **members: Any) -> list[tuple[str, str]]:
    """The remarks on these blocks."""
    return remarks(seed(*blocks, **members))
