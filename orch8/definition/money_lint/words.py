"""What the name of a handler says about money: it moves some, it tries again, it takes away.

Names are read word by word, so that ``send_payment_reminder`` and ``discharge`` are left alone.
Whoever means otherwise states an ``effect``, which always wins over the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from orch8.blocks.step import Effect, Step

# A first word that moves money whatever follows: charge_card, refund, payout_seller.
_MOVES: Final = frozenset(
    {
        "bill", "charge", "debit", "disburse", "pay", "payout", "rebill", "recharge", "refund",
        "reimburse",
    }
)  # fmt: skip
# A first word that moves money only together with one of _MEANS, or alone if it is in _ALONE.
_MAY_MOVE: Final = frozenset(
    {
        "authorise", "authorize", "capture", "collect", "purchase", "retry", "reverse", "settle",
        "transfer", "void", "withdraw",
    }
)  # fmt: skip
_ALONE: Final = frozenset({"capture", "purchase", "transfer", "withdraw"})
_MEANS: Final = frozenset(
    {
        "amount", "authorisation", "authorization", "balance", "card", "charge", "debt", "deposit",
        "dues", "fee", "fees", "funds", "installment", "instalment", "invoice", "invoices",
        "method", "money", "payment", "payments", "payout", "payouts", "refund", "rent",
        "transfer",
    }
)  # fmt: skip
# A verb that says nothing by itself, before what is moved: create_refund, send_payout.
_DOES: Final = frozenset(
    {
        "create", "do", "execute", "initiate", "issue", "make", "perform", "process", "release",
        "run", "send", "submit", "trigger",
    }
)  # fmt: skip
_MOVED: Final = frozenset(
    {
        "charge", "charges", "debit", "disbursement", "funds", "money", "payment", "payments",
        "payout", "payouts", "refund", "refunds", "transfer", "transfers",
    }
)  # fmt: skip
_CARRIERS: Final = frozenset({"batch", "file", "instruction", "intent", "order", "run"})
# The method of a provider's library: stripe.refunds.create, payment_intents.confirm.
_METHODS: Final = frozenset({"capture", "confirm", "create", "execute", "send", "submit"})
# A last word that makes it talk about money instead: refund_email, charge_status.
_ONLY_ABOUT: Final = frozenset(
    {
        "amount", "check", "details", "eligibility", "email", "estimate", "event", "info", "limit",
        "link", "mail", "notice", "notification", "page", "policy", "preview", "quote", "reason",
        "receipt", "reminder", "report", "risk", "status", "summary", "webhook",
    }
)  # fmt: skip
_PROVIDERS: Final = frozenset(
    {
        "adyen", "braintree", "checkout", "gocardless", "mollie", "paypal", "psp", "square",
        "stripe", "truelayer", "wise", "worldline", "worldpay",
    }
)  # fmt: skip
# Money that goes out, goes back, or is only booked: what comes later need not ask who paid.
_OUTWARD: Final = frozenset(
    {
        "batch", "credit", "disburse", "disbursement", "invoice", "journal", "ledger", "order",
        "payout", "payouts", "proration", "recredit", "refund", "refunds", "reimburse", "release",
        "reverse", "transfer", "transfers", "void", "withdraw",
    }
)  # fmt: skip
_UNDOES: Final = frozenset({"refund", "refunds", "reverse", "void"})
_AGAIN: Final = frozenset({"again", "backup", "fallback", "rebill", "recharge", "retry"})

_TAKES: Final = frozenset(
    {
        "block", "cancel", "close", "deactivate", "disable", "lock", "restrict", "revoke",
        "suspend", "terminate",
    }
)  # fmt: skip
_TAKEN: Final = frozenset(
    {
        "access", "account", "accounts", "contract", "customer", "licence", "license", "membership",
        "plan", "policy", "service", "services", "subscription", "subscriptions", "tenant", "user",
        "workspace",
    }
)  # fmt: skip
_LOST: Final = frozenset(
    {
        "canceled", "cancelled", "delinquent", "downgraded", "inactive", "restricted", "suspended",
        "terminated", "uncollectible", "unpaid",
    }
)  # fmt: skip
_SETS: Final = frozenset({"mark", "set", "update"})

_ASKS: Final = frozenset(
    {
        "check", "fetch", "find", "get", "load", "lookup", "poll", "query", "read", "recheck",
        "reconcile", "refresh", "retrieve", "sync", "verify",
    }
)  # fmt: skip
_PAID: Final = frozenset(
    {"balance", "captured", "outstanding", "owed", "paid", "recovered", "settled", "unpaid"}
)
_DEMAND: Final = frozenset(
    {"charge", "dues", "funds", "intent", "invoice", "money", "payment", "transfer"}
)
_ENDED: Final = frozenset(
    {
        "arrived", "cleared", "collected", "completed", "confirmed", "done", "made", "ok",
        "outcome", "received", "result", "state", "status", "succeeded",
    }
)  # fmt: skip
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@lru_cache(maxsize=4096)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: ``celery:billing.tasks.chargeCard`` is charge, card."""
    segments = [s for s in re.split(r"[.:/]", name[:200]) if s]
    last = [each.lower() for each in _WORD.findall(segments[-1])] if segments else []
    if len(segments) > 1 and len(last) == 1 and last[0] in _METHODS:
        last = [each.lower() for each in _WORD.findall(segments[-2])] + last
    while len(last) > 1 and last[0] in _PROVIDERS:
        last = last[1:]
    return tuple(last)


@lru_cache(maxsize=4096)
def sounds_like_money(handler: str) -> bool:
    """Whether the handler's name says that it moves money."""
    said = words(handler)
    if not said or said[-1] in _ONLY_ABOUT:
        return False
    first, rest = said[0], said[1:]
    if first in _MOVES:
        return True
    if first in _MAY_MOVE:
        return not _MEANS.isdisjoint(rest) or (not rest and first in _ALONE)
    if said[:2] in (("payment", "intent"), ("payment", "intents")):
        return said[-1] in _METHODS
    if first in _DOES and rest:
        return rest[-1] in _MOVED or (rest[-1] in _CARRIERS and not _MOVED.isdisjoint(rest))
    return len(said) > 1 and first in _MOVED and said[-1] in _METHODS


def moves_money(step: Step) -> bool:
    """Whether the step says that it moves money, or says nothing and its name does."""
    if step.effect is None:
        return sounds_like_money(step.handler)
    return step.effect is Effect.MONEY


def collects(step: Step) -> bool:
    """Whether the step takes a payment from a customer."""
    return moves_money(step) and _OUTWARD.isdisjoint(words(step.handler))


def gives_back(step: Step) -> bool:
    """Whether the step returns a payment, after which the customer has not paid."""
    return not _UNDOES.isdisjoint(words(step.handler)) and sounds_like_money(step.handler)


def tries_again(handler: str) -> bool:
    """Whether the name says that the step repeats a payment that did not work."""
    return not _AGAIN.isdisjoint(words(handler))


def takes_away(step: Step, params: Any) -> bool:
    """Whether the step takes from a customer what a payment would have kept."""
    said = words(step.handler)
    if not said:
        return False
    if said[0] == "downgrade":
        return True
    if said[0] in _TAKES:
        return len(said) == 1 or not _TAKEN.isdisjoint(said[1:])
    if said[0] not in _SETS:
        return False
    if not _LOST.isdisjoint(said):
        return True
    given = params.values() if isinstance(params, Mapping) else ()
    return any(isinstance(each, str) and each in _LOST for each in given)


def asks(step: Step) -> bool:
    """Whether the step's output tells how things are, so that a condition on it is a test."""
    if step.effect in (Effect.READ, Effect.NONE):
        return True
    return step.handler == "wait_signal" or not _ASKS.isdisjoint(words(step.handler)[:1])


@lru_cache(maxsize=4096)
def about_paying(name: str) -> bool:
    """Whether a name, such as of a signal or a path into the context, is about having paid:
    ``invoice.paid`` and ``payment_status`` are, ``payment_method.updated`` is not.
    """
    said = {each.lower() for each in _WORD.findall(name[:200])}
    return not _PAID.isdisjoint(said) or not (_DEMAND.isdisjoint(said) or _ENDED.isdisjoint(said))


def is_told(step: Step, values: Mapping[str, Any]) -> bool:
    """Whether the step waits for a signal that says that a payment has come."""
    if step.handler != "wait_signal":
        return False
    params = values.get("params", values)
    signal = params.get("signal") if isinstance(params, Mapping) else None
    return isinstance(signal, str) and about_paying(signal)


def same_call(handler: str, values: Mapping[str, Any]) -> str:
    """A text that two steps share if they ask for the same payment, as far as one can see."""
    told = [values.get(name) for name in ("params", "money")]
    return json.dumps([handler, *told], sort_keys=True, default=str)
