"""The shipped dunning on the virtual clock, with a bank, an invoice and a mailbox around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orch8
from orch8.testing import Simulator
from orch8.testing.driver import Call
from orch8.testing.instance import SimInstance

DUNNING = Path(orch8.__file__).parent / "examples" / "dunning.json"
BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 10, 5, 14, tzinfo=BERLIN)  # a Monday; no payday in the first seven days
DATA = {
    "invoice_id": "in_1",
    "subscription_id": "sub_1",
    "customer_id": "cus_1",
    "payment_method_id": "pm_1",
    "card_fingerprint": "fp_1",
    "card_network": "visa",
    "amount_minor": 9900,
    "currency": "usd",
    "country": "DE",
    "customer_timezone": "Europe/Berlin",
}
BACKUP = {
    "backup_payment_method_id": "pm_2",
    "backup_card_fingerprint": "fp_2",
    "backup_card_network": "mastercard",
}
PAID = {"status": "succeeded", "outcome": "succeeded"}
SCA = {"status": "requires_action", "outcome": "requires_action", "payment_intent": "pi_1"}
OPEN = {"status": "open"}


def declined(code: str) -> dict[str, Any]:
    """A decline with this provider's code."""
    return {"status": "failed", "outcome": "declined", "decline_code": code}


SOFT = declined("insufficient_funds")
HARD = declined("lost_card")
EXPIRED = declined("expired_card")
FRAUD = declined("fraudulent")


class Dunning:
    """One instance of the dunning and what is around it.

    The charges answer one after the other, the last one again and again; ``invoice`` is what the
    billing system says of the invoice, which a test may change at any time.
    """

    def __init__(
        self,
        *charges: Any,
        data: Mapping[str, Any] | None = None,
        now: datetime = START,
        **handlers: Any,
    ) -> None:
        self.invoice: dict[str, Any] = dict(OPEN)
        self._charges = list(charges)
        quiet = ("send_email", "open_review", "set_subscription_state", "activate_subscription",
                 "downgrade_account")  # fmt: skip
        given: dict[str, Any] = {
            **{name: {} for name in quiet},
            "charge_payment_method": lambda _: self._next(),
            "get_invoice": lambda _: dict(self.invoice),
            "cancel_payment": {"status": "canceled"},
        }
        self.sim = Simulator(DUNNING, given | handlers, now=now)
        self.data = DATA | dict(data or {})
        self.run: SimInstance = self.sim.start({"data": self.data})

    def _next(self) -> Any:
        return self._charges.pop(0) if len(self._charges) > 1 else self._charges[0]

    # -- what happens ----------------------------------------------------------------------------
    def finish(self) -> str | None:
        """Everything that happens of itself has happened; the name under which it ended."""
        self.sim.run()
        return self.run.outcome

    def wait(self, duration: Any) -> None:
        """That much time has passed."""
        self.sim.run_for(duration)

    def until(self, step: str) -> None:
        """The step, by node key, has been called and has not been answered for longer than that."""
        self.sim.run_until(lambda: any(call.step == step for call in self.run.calls))

    def signal(self, name: str, **payload: Any) -> None:
        """The signal has reached the run."""
        self.sim.signal(self.run, name, payload)

    def paid_elsewhere(self) -> None:
        """Somebody paid by another road, and the billing system tells."""
        self.invoice = {"status": "paid"}
        self.signal("invoice.paid")

    def new_card(self, name: str = "pm_9") -> None:
        """The customer has given another card."""
        self.signal(
            "payment_method.updated", payment_method_id=name, card_fingerprint=f"fp_of_{name}"
        )

    # -- what was done ---------------------------------------------------------------------------
    def calls(self, handler: str) -> list[Call]:
        """The calls of a handler."""
        return [call for call in self.run.calls if call.handler == handler]

    @property
    def charges(self) -> list[Call]:
        """The charges, repeats of the same attempt included."""
        return self.calls("charge_payment_method")

    @property
    def cards(self) -> list[str]:
        """The cards that were charged, in order."""
        return [call.params["payment_method_id"] for call in self.charges]

    @property
    def mails(self) -> list[str]:
        """The mails that were sent, in order."""
        return [call.params["template"] for call in self.calls("send_email")]

    @property
    def reviews(self) -> list[str]:
        """Why a person was asked to look."""
        return [call.params["reason"] for call in self.calls("open_review")]

    def done(self, step: str) -> bool:
        """Whether the step, by id or node key, has completed."""
        return step in self.run.outputs

    def times(self, handler: str, zone: ZoneInfo = BERLIN) -> list[str]:
        """When a handler was called, on the customer's clock."""
        return [call.at.astimezone(zone).strftime("%a %m-%d %H:%M") for call in self.calls(handler)]


def blocks_of(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every block of a definition, those of its interrupts included."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str) and value["type"] != "object":
            yield value
        for each in value.values():
            yield from blocks_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from blocks_of(each)
