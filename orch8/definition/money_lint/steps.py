"""Remarks on what a step that moves money does not say: its effect, its fence, its amount."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from orch8.blocks.step import Effect, Step
from orch8.definition.money_lint.words import sounds_like_money, words
from orch8.definition.outline import Node, Outline
from orch8.engine.expressions import find_expressions

Remark = tuple[str, str, str, str]  # pointer within the block, message, hint, code

_AT_RISK: Final = (Effect.MONEY, Effect.IRREVOCABLE)
_SUBJECTS: Final = ("invoice_id", "payment_id", "order_id")  # what is to be paid once
_NUMBER: Final = re.compile(r"\s*[+-]?\d*\.\d+\s*")
# What a provider is asked for, by a word of the handler that made it.
_FINDS: Final = {
    "refund": "refund", "payout": "payout", "transfer": "transfer", "void": "payment",
    "capture": "payment", "pay": "payment", "payment": "payment", "charge": "charge",
    "debit": "charge", "retry": "charge", "batch": "batch", "invoice": "invoice",
}  # fmt: skip


class Suggested:
    """What to paste into this document: names that it uses itself, where it has any."""

    def __init__(self, found: Outline, body: Mapping[str, Any]) -> None:
        schema = body.get("input_schema")
        required = schema.get("required") if isinstance(schema, dict) else None
        known = [each for each in required or () if isinstance(each, str)]
        unique = body.get("unique")
        self.unique = unique.get("key") if isinstance(unique, dict) else None
        fences = [str(node.values["fence"]) for node in found.nodes if _for_anyone(node.block)]
        if isinstance(self.unique, str) and not known and _reads_the_data(self.unique):
            fences.append(self.unique)
        ids = [each for each in known if each.endswith("_id")]
        subject = next((each for each in _SUBJECTS if each in ids), (*ids, _SUBJECTS[0])[0])
        by_subject = f"{subject.removesuffix('_id')}:{{{{context.data.{subject}}}}}"
        self._fence = fences[0] if fences else by_subject
        self.amount = next((k for k in known if "amount" in k), "amount_minor")

    def fence(self, node: Node) -> str:
        """The member ``fence``, for each item of a for_each its own."""
        item = next(iter(sorted(node.variables)), None)
        of_item = f"{'_'.join(words(node.values['handler'])) or 'step'}:{{{{{item}.id}}}}"
        return f'"fence": "{of_item if item else self._fence}"'

    @property
    def money(self) -> str:
        """The member ``money``."""
        amount = f"{{{{context.data.{self.amount}}}}}"
        return f'"money": {{"amount": "{amount}", "currency": "{{{{context.data.currency}}}}"}}'


def step_remarks(node: Node, step: Step, suggested: Suggested) -> Iterator[Remark]:
    """What a step leaves open about the money that it moves."""
    if step.effect is None:
        if sounds_like_money(step.handler):
            message = f"{step.handler!r} sounds as if it moved money, and does not say so"
            yield "", message, '"effect": "money"', "money.effect"
    elif step.effect in _AT_RISK:
        yield from _unsaid(node, step, suggested)
    amount = (node.values.get("money") or {}).get("amount")
    if (minor := _minor_units(amount)) is not None:
        message = f"amount {amount!r} is no whole number of minor units, such as cents"
        yield "/money/amount", message, f'"amount": {minor}', "money.amount_float"


def _unsaid(node: Node, step: Step, suggested: Suggested) -> Iterator[Remark]:
    if step.fence is None:
        message = "without a fence another instance can do the same while this one is in doubt"
        yield "", message, suggested.fence(node), "money.fence"
    elif step.fence.is_constant and not _same_for_all(suggested.unique):
        message = "the fence has no variable part: all customers wait behind one another"
        fence = f'"fence": "{node.values["fence"]}:{{{{context.data.customer_id}}}}"'
        yield "/fence", message, fence, "money.shared_fence"
    if step.on_unknown is None:
        handler = f"find_{_found_by(step.handler)}"
        message = "nothing says how to find out what came of a call without an answer"
        hint = f'"on_unknown": {{"policy": "reconcile", "handler": "{handler}", "then": "park"}}'
        yield "", message, hint, "money.on_unknown"
    if step.effect is Effect.MONEY and step.money is None:
        message = "budgets, approvals and reports do not see its amount"
        yield "", message, suggested.money, "money.amount"


def effect_remarks(found: Outline) -> Iterator[tuple[Node, Remark]]:
    """Steps of one handler of which one says that it moves money, and another something else."""
    strongest: dict[str, Effect] = {}
    steps = [(n, n.block) for n in found.nodes if isinstance(n.block, Step)]
    for _, step in steps:
        if step.effect in _AT_RISK and step.effect is not None:
            strongest[step.handler] = max(
                strongest.get(step.handler, step.effect), step.effect, key=_AT_RISK.index
            )
    for node, step in steps:
        wanted = strongest.get(step.handler)
        if wanted is None or step.effect is wanted or _other_use(step):
            continue
        if step.effect is None and sounds_like_money(step.handler):
            continue  # that remark is made already
        said = step.effect.value if step.effect is not None else "nothing"
        message = f"another step of {step.handler!r} has the effect {wanted.value}, this one {said}"
        at = "/effect" if step.effect is not None else ""
        yield node, (at, message, f'"effect": "{wanted.value}"', "money.effects_differ")


def _other_use(step: Step) -> bool:
    """Whether the step asks a handler of many uses for something harmless, and says so."""
    return step.handler == "http_request" or step.effect is Effect.READ


def _minor_units(amount: Any) -> int | None:
    """What an amount with a decimal point was probably meant to be; None if it has none."""
    if isinstance(amount, float):
        return round(amount * 100)
    if isinstance(amount, str) and _NUMBER.fullmatch(amount):
        return round(float(amount) * 100)
    return None


def _found_by(handler: str) -> str:
    said = words(handler)
    return next((what for word, what in _FINDS.items() if word in said), "_".join(said) or "it")


def _for_anyone(block: Any) -> bool:
    """Whether the step has a fence that every other step of the document could have, too."""
    fence = block.fence if isinstance(block, Step) else None
    return fence is not None and not fence.outputs and fence.roots <= {"context", "data"}


def _reads_the_data(text: str) -> bool:
    read = [each.strip() for _, each in find_expressions(text)]
    return bool(read) and all(each.startswith(("context.data.", "data.")) for each in read)


def _same_for_all(unique: Any) -> bool:
    return isinstance(unique, str) and "{{" not in unique
