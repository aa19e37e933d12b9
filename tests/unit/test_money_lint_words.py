"""What names of handlers and conditions say about money."""

from __future__ import annotations

import pytest

from orch8.definition.money_lint.conditions import Supposed, read_test
from orch8.definition.money_lint.words import about_paying, sounds_like_money, takes_away
from orch8.engine.expressions import Dialect, compile_condition
from tests.support.documents import only


# -- names ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [
        "charge", "charge_payment_method", "capture_payment", "retry_with_backup_method", "refund",
        "issue_refund", "create_payout", "send_payment", "transfer_funds", "pay_invoice",
        "celery:billing.tasks.charge_card", "stripe.refunds.create", "payment_intents.confirm",
        "chargeCard", "stripe_charge", "submit_payment_batch", "create_payment_order", "payout",
        "debit_account", "collect_payment", "void_authorization", "charges.create",
    ],
)  # fmt: skip
def test_name_sounds_like_money(name: str) -> None:
    """A handler that moves money is known by its name, however that is written."""
    assert sounds_like_money(name)


@pytest.mark.parametrize(
    "name",
    [
        "send_payment_reminder", "discharge", "get_payment", "find_charge", "charge_status",
        "refund_email", "capture_screenshot", "transfer_ownership", "create_payment_method",
        "hold_refunds_on_payment", "reconcile_settlement", "send_email", "payout_risk",
        "retry_webhook", "collect_documents", "activate_subscription", "check_payout",
        "list_refunds", "payment_failed", "process_payment_webhook", "post_journal", "wait", "",
        "...", "book_dispute_result", "create_invoice", "compute_payouts", "void_label", "stripe",
    ],
)  # fmt: skip
def test_name_does_not_sound_like_money(name: str) -> None:
    """Talking about money is not moving it."""
    assert not sounds_like_money(name)


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("downgrade_account", True), ("cancel_subscription", True), ("suspend", True),
        ("restrict_access", True), ("terminate_contract", True), ("mark_unpaid", True),
        ("mark_invoice_uncollectible", True), ("cancel_reminder", False), ("mark_paid", False),
        ("close_ticket", False), ("send_downgrade_notice", False), ("block_refunds", False),
        ("7", False),
    ],
)  # fmt: skip
def test_name_takes_something_away(name: str, takes: bool) -> None:
    """What a customer loses is known by the name, and by a word for it among the params."""
    assert takes_away(only({"type": "step", "handler": name}), None) is takes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("invoice.paid", True), ("payment_intent.succeeded", True), ("payment_status", True),
        ("payment_method.updated", False), ("invoice.voided", False), ("status", False),
    ],
)  # fmt: skip
def test_name_is_about_having_paid(name: str, about: bool) -> None:
    """A signal or a member of the context that tells of a payment stands for a look at it."""
    assert about_paying(name) is about


# -- conditions --
X = "outputs.charge"
# condition, whether it holds when the charge succeeded, and when it was declined
CONDITIONS: list[tuple[str, bool | None, bool | None]] = [
    (f"{X}.outcome == 'succeeded'", True, False),
    (f"'succeeded' == {X}.outcome", True, False),
    (f"{X}['outcome'] != 'succeeded'", False, True),
    (f"{X}.outcome == 'declined'", False, True),
    (f"{X}.outcome == 'requires_action'", False, False),
    (f"{X}.status == 'declined'", False, None),
    (f"{X}.status == 'PAID'", True, False),
    (f"{X}.status == 200", None, None),
    (f"{X}.status == {X}.outcome", None, None),
    (f"{X}.status == data.wanted", None, None),
    (f"{X}.payment.status in ['succeeded', 'paid']", True, False),
    (f"{X}.status in ['failed', 'declined']", False, None),
    (f"{X}.status not in ['failed']", True, None),
    (f"{X}.status in data.good", None, None),
    (f"data.x in ['a', {X}.status]", None, None),
    (f"{X}.paid", True, False),
    (f"!{X}.paid", False, True),
    (f"{X}.status", True, None),
    (f"{X}.amount > 3", None, None),
    (f"-{X}.amount", None, None),
    (f"{X}", None, None),
    (f"{X}.outcome == 'succeeded' && data.vip", None, False),
    (f"{X}.outcome == 'succeeded' && true", True, False),
    (f"{X}.outcome == 'succeeded' || data.vip", True, None),
    (f"{X}.outcome == 'succeeded' || true", True, True),
    (f"data.vip || {X}.outcome == 'succeeded'", True, None),
    (f"data.vip || {X}.outcome == 'declined'", None, True),
    (f"({X}.status || 'none') == 'succeeded'", True, False),
    (f"({X}.status || 'succeeded') == 'succeeded'", True, None),
    (f"({X}.status | upper) == 'succeeded'", True, False),
    (f"({X}.status | replace('a', 'b')) == 'succeeded'", None, None),
    (f"{X}.paid ? 'yes' : ''", True, False),
    (f"data.x ? {X}.paid : true", None, None),
    (f"contains(['paid'], {X}.status)", None, None),
    ("decline.hard", False, None),
    ("not decline.hard", True, None),
    ("outputs.other.outcome == 'succeeded'", None, None),
    ("[1]", True, True),
    ("null", False, False),
    ("1 == 1", True, True),
    ("1 in [2]", False, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "paid", "declined"), CONDITIONS, ids=[c for c, _, _ in CONDITIONS]
)
def test_condition_is_read_for_what_it_decides(
    source: str, paid: bool | None, declined: bool | None
) -> None:
    """A condition holds, does not hold, or depends on more than how the payment ended."""
    test = read_test(compile_condition(source, Dialect.SEED), Dialect.SEED)
    assert test.holds(Supposed("charge", "succeeded")) is paid
    assert test.holds(Supposed("charge", "declined")) is declined


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("context.data.paid", True), ("data['invoice']['status'] == 'open'", True),
        ("state.payment_done", True), ("state.x", False), ("data.amount > 3", False),
        ("len(data.items[data.paid]) > 1", True), ("[-data.balance][0] > 1", True),
        ("(data.x | default(data.unpaid)) == 1", True), ("data.a ? data.b : data.owed", True),
        ("outputs.charge.paid", False), ("decline.paid", False), ("json(data)[0] == 'a'", False),
    ],
)  # fmt: skip
def test_condition_may_ask_outside(source: str, asks: bool) -> None:
    """The context and the state may know of a payment, too."""
    condition = compile_condition(source, Dialect.SEED)
    assert read_test(condition, Dialect.SEED).asks_outside is asks
