"""Who may decide about an attempt in doubt: one person, or two when much money is at stake."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Conflict, Forbidden, InvalidArgument, NotFound, Orch8Error
from orch8.handlers.request import StepRequest
from orch8.runtime.decisions import Actor, Decided, confirm, decide, needs_two, put_policy, withdraw
from orch8.runtime.resolve import Decision, Judgement
from orch8.storage import attention
from orch8.storage.rows import InstanceRow, StepRow
from tests.support.house import House

NODE = "charge"
OUTPUT = {"charge_id": "ch_1"}
SPELLINGS = ("ann", "Ann ", "\uff21NN")  # the last with a wide letter A


class Bank:
    """A provider that loses its answer until it is told to answer; remembers the keys it got."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.answers = False
        self.knows: Mapping[str, Any] = {"found": "cannot_tell"}

    def charge(self, request: StepRequest) -> Any:
        """The charge itself."""
        self.keys.append(request.idempotency_key)
        if self.answers:
            return {"charge_id": "ch_2"}
        return Answer(Verdict.UNKNOWN, error={"message": "the answer was lost"})

    def find(self, request: StepRequest) -> Any:
        """What it says of a charge when it is asked."""
        del request
        return dict(self.knows)


@pytest.fixture
def bank(house: House) -> Bank:
    """The handlers ``charge`` and ``find_charge`` of the house."""
    made = Bank()
    house.handler("charge", made.charge)
    house.handler("find_charge", made.find)
    return made


def parked(house: House, amount: Any = 120_000, currency: str = "USD", **more: Any) -> UUID:
    """An instance whose charge of this amount is in doubt and parked."""
    step = {
        "type": "step", "id": NODE, "handler": "charge", "effect": "money",
        "money": {"amount": "{{context.data.amount}}", "currency": "{{context.data.currency}}"},
        "on_unknown": {"policy": "park"},
    }  # fmt: skip
    after = {"type": "step", "id": "after", "handler": "noop"}
    data = {"amount": amount, "currency": currency}
    instance_id = house.run(step | more, after, data=data)
    assert house.step(instance_id).state == "parked"
    return instance_id


def policy(house: House, **thresholds: Any) -> None:
    """The tenant wants two people from these amounts on."""
    with house.office.begin() as tx:
        put_policy(tx, "default", thresholds, actor="boss")


def judge(
    house: House, instance_id: UUID, decision: Decision = Decision.HAPPENED, actor: str = "ann",
    **more: Any,
) -> Decided:  # fmt: skip
    """Somebody decides."""
    said = {"reason": "seen in the dashboard", "output": OUTPUT} | more
    judgement = Judgement(decision=decision, actor=actor, **said)
    with house.office.begin() as tx:
        return decide(house.office, tx, instance_id, NODE, judgement, tenant_id=None)


def agree(house: House, decision_id: UUID, actor: str = "bob") -> InstanceRow:
    """Somebody confirms."""
    who = Actor(name=actor, reason="I looked, too")
    return confirm(house.office, decision_id, who, tenant_id=None)


def proposed(house: House, instance_id: UUID, **more: Any) -> UUID:
    """The id of a decision that waits for a second person."""
    found = judge(house, instance_id, **more)
    assert found.instance is None
    assert found.proposal is not None
    made: UUID = found.proposal.id
    return made


def state_of(house: House, decision_id: UUID) -> str:
    """What became of a decision."""
    with house.office.begin() as tx:
        row = attention.read_decision(tx, decision_id)
    assert row is not None
    found: str = row.state
    return found


def doubts(house: House) -> list[tuple[Any, ...]]:
    """The doubts there were: who resolved each, and what it came to."""
    return [
        tuple(row)
        for row in house.sql("SELECT resolved_by, verdict FROM doubts ORDER BY generation")
    ]


# -- one person ----------------------------------------------------------------------------------
@pytest.mark.usefixtures("bank")
def test_person_resolves_the_doubt(house: House) -> None:
    """The table of doubts says that a person did, and the reference is kept."""
    instance_id = parked(house)
    assert doubts(house) == [(None, None)]
    judge(house, instance_id, provider_ref="ch_1")
    house.work()
    assert house.state(instance_id) == "completed"
    step = house.step(instance_id)
    assert (step.output, step.outcome, step.provider_ref) == (OUTPUT, "succeeded", "ch_1")
    assert doubts(house) == [("person", "succeeded")]


@pytest.mark.usefixtures("bank")
def test_skip_goes_on_without_the_step(house: House) -> None:
    """The step completes without output, and what follows runs."""
    instance_id = parked(house)
    judge(house, instance_id, Decision.SKIP, output=None)
    house.work()
    assert house.state(instance_id) == "completed"
    assert (house.step(instance_id).outcome, house.step(instance_id).output) == ("skipped", None)


@pytest.mark.usefixtures("bank")
def test_declined_completes_the_step_as_the_provider_would_have(house: House) -> None:
    """Routers read the outcome."""
    instance_id = parked(house)
    judge(house, instance_id, Decision.DECLINED, output={"decline_code": "insufficient_funds"})
    assert house.step(instance_id).outcome == "declined"
    assert doubts(house) == [("person", "declined")]


def test_retry_sends_it_again_with_its_key_while_that_is_known(house: House, bank: Bank) -> None:
    """The provider knows the key for a day, so it is the same one."""
    instance_id = parked(house)
    bank.answers = True
    judge(house, instance_id, Decision.RETRY, output=None)
    house.work()
    assert house.state(instance_id) == "completed"
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1


def test_nothing_is_sent_again_once_the_instance_is_cancelled(house: House, bank: Bank) -> None:
    """What did not happen and is not wanted any more ends as cancelled."""
    instance_id = parked(house)
    house.signal(instance_id, "cancel")
    assert house.step(instance_id).state == "parked"
    judge(house, instance_id, Decision.RETRY, output=None)
    house.work()
    assert house.state(instance_id) == "cancelled"
    assert len(bank.keys) == 1


def test_provider_is_asked_again_at_once(house: House, bank: Bank) -> None:
    """What its read handler finds ends the doubt; nothing is sent a second time."""
    asks = {"policy": "reconcile", "handler": "find_charge", "schedule": ["1s"]}
    step = {
        "type": "step", "id": NODE, "handler": "charge", "effect": "money", "on_unknown": asks,
    }  # fmt: skip
    instance_id = house.run(step)
    for _ in range(3):
        house.tick()
        house.work("janitor")
    assert house.step(instance_id).attention["reason"] == "reconcile_exhausted"
    bank.knows = {"found": "yes", "outcome": "succeeded", "provider_ref": "ch_9", "output": OUTPUT}
    judge(house, instance_id, Decision.ASK_AGAIN, output=None)
    house.work("janitor")
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.step(instance_id).provider_ref == "ch_9"
    assert len(bank.keys) == 1


def test_same_key_is_the_question_where_no_read_handler_is_named(house: House, bank: Bank) -> None:
    """The provider answers a key that it knows with the first result."""
    instance_id = parked(house)
    bank.answers = True
    judge(house, instance_id, Decision.ASK_AGAIN, output=None)
    house.work()
    assert house.step(instance_id).output == {"charge_id": "ch_2"}
    assert len(set(bank.keys)) == 1


@pytest.mark.usefixtures("bank")
def test_nobody_can_be_asked_with_a_key_that_may_be_forgotten(house: House) -> None:
    """The refusal says what is left to do, and nothing changes."""
    instance_id = parked(house, idempotency={"ttl": "5m"})
    with pytest.raises(Conflict, match="look at its dashboard and decide"):
        judge(house, instance_id, Decision.ASK_AGAIN, output=None)
    assert house.step(instance_id).state == "parked"


@pytest.mark.usefixtures("bank")
def test_output_must_be_one_that_the_step_could_have(house: House) -> None:
    """An output that says otherwise, or breaks the schema, would be taken for an unknown answer."""
    schema = {"type": "object", "required": ["charge_id"]}
    instance_id = parked(house, output_schema=schema)
    with pytest.raises(InvalidArgument, match="did not happen") as refused:
        judge(house, instance_id, output={"outcome": "declined"})
    assert refused.value.errors[0].pointer == "/output/outcome"
    with pytest.raises(InvalidArgument, match="charge_id"):
        judge(house, instance_id, output={})
    assert house.step(instance_id).state == "parked"


@pytest.mark.usefixtures("bank")
def test_decision_about_an_attempt_that_has_changed_is_refused(house: House) -> None:
    """The epoch that the person looked at must still hold."""
    instance_id = parked(house)
    with pytest.raises(Conflict, match="look again"):
        judge(house, instance_id, epoch=house.step(instance_id).epoch - 1)
    judge(house, instance_id, epoch=house.step(instance_id).epoch)
    assert house.step(instance_id).state == "completed"


@pytest.mark.usefixtures("bank")
def test_audit_log_tells_who_decided_what_before_what_followed(house: House) -> None:
    """Before and after stand in it, of the output only a digest."""
    instance_id = parked(house)
    judge(house, instance_id)
    actions = house.actions(instance_id, NODE)
    assert actions.index("step.resolved") < actions.index("step.completed")
    (row,) = house.sql("SELECT actor, reason, body FROM audit_log WHERE action = 'step.resolved'")
    assert (row.actor, row.reason) == ("ann", "seen in the dashboard")
    assert row.body["before"]["state"] == "parked"
    assert row.body["after"]["state"] == "completed"
    assert len(row.body["output_sha256"]) == 64


# -- two people ----------------------------------------------------------------------------------
@pytest.mark.usefixtures("bank")
def test_large_amount_needs_a_second_person(house: House) -> None:
    """Nothing happens until another confirms; the log tells of both."""
    policy(house, USD=100_000)
    instance_id = parked(house)
    decision_id = proposed(house, instance_id)
    assert house.step(instance_id).state == "parked"
    agree(house, decision_id)
    assert house.step(instance_id).output == OUTPUT
    assert state_of(house, decision_id) == "carried_out"
    sql = "SELECT actor, body FROM audit_log WHERE action = 'step.resolved'"
    (row,) = house.sql(sql)
    assert (row.actor, row.body["proposed_by"], row.body["confirmed_by"]) == ("bob", "ann", "bob")
    assert {"decision.proposed", "decision.confirmed"} <= set(house.actions(instance_id, NODE))


@pytest.mark.parametrize(
    ("money", "two"),
    [
        ({"amount": 100_000, "currency": "USD"}, True),
        ({"amount": 99_999, "currency": "USD"}, False),
        ({"amount": -100_000, "currency": "usd"}, True),
        ({"amount": 100_000, "currency": "EUR"}, False),
        ({"amount": 5_000, "currency": "JPY"}, True),
        ({"amount": "100000", "currency": "USD"}, True),
        ({"amount": True, "currency": "USD"}, True),
        ({"amount": 1}, True),
        (None, True),
    ],
)
def test_threshold_is_one_of_its_currency(money: Any, *, two: bool) -> None:
    """At the threshold two people are needed, below it one; an unknown amount is a large one."""
    row = StepRow(
        UUID(int=1), NODE, UUID(int=2), "default", NODE, "charge", "money", "parked", "renewal",
        datetime.now(UTC), money=money,
    )  # fmt: skip
    assert needs_two(row, {"USD": 100_000, "JPY": 5_000}) is two
    assert not needs_two(row, {})


@pytest.mark.usefixtures("bank")
def test_nobody_confirms_what_they_proposed(house: House) -> None:
    """However they spell it; the refusal is in the audit log, and somebody else can confirm."""
    policy(house, USD=0)
    decision_id = proposed(house, parked(house))
    for again in SPELLINGS:
        with pytest.raises(Forbidden, match="another person"):
            agree(house, decision_id, again)
    sql = "SELECT actor, outcome FROM audit_log WHERE action = 'decision.refused' ORDER BY id"
    refusals = [tuple(row) for row in house.sql(sql)]
    assert refusals == [(again, "denied") for again in SPELLINGS]
    assert state_of(house, decision_id) == "open"
    agree(house, decision_id)


@pytest.mark.usefixtures("bank")
def test_nameless_caller_can_neither_propose_nor_confirm(house: House) -> None:
    """Two people can only be told apart by their names."""
    policy(house, USD=0)
    instance_id = parked(house)
    with pytest.raises(InvalidArgument, match="who are you"):
        judge(house, instance_id, actor="api")
    decision_id = proposed(house, instance_id)
    with pytest.raises(InvalidArgument, match="who are you"):
        agree(house, decision_id, "api")


def test_decision_about_an_attempt_that_went_on_is_stale(house: House, bank: Bank) -> None:
    """The provider answered meanwhile: confirming is refused, and the answer stands."""
    policy(house, USD=0)
    instance_id = parked(house)
    decision_id = proposed(house, instance_id, decision=Decision.FAIL, output=None)
    bank.answers = True
    judge(house, instance_id, Decision.ASK_AGAIN, output=None)
    house.work()
    with pytest.raises(Conflict, match="has changed"):
        agree(house, decision_id)
    assert state_of(house, decision_id) == "stale"
    assert house.step(instance_id).output == {"charge_id": "ch_2"}
    with pytest.raises(Conflict, match="stale already"):
        agree(house, decision_id)


def test_new_proposal_takes_the_place_of_one_about_an_older_attempt(
    house: House, bank: Bank
) -> None:
    """The attempt is in doubt again, but it is not the one that was decided about."""
    policy(house, USD=0)
    instance_id = parked(house)
    first = proposed(house, instance_id)
    judge(house, instance_id, Decision.ASK_AGAIN, output=None)
    house.work()
    assert len(bank.keys) == 2
    second = proposed(house, instance_id)
    assert (state_of(house, first), state_of(house, second)) == ("stale", "open")
    assert "decision.stale" in house.actions(instance_id, NODE)


@pytest.mark.usefixtures("bank")
def test_changed_policy_frees_no_open_decision(house: House) -> None:
    """Neither raising the threshold nor withdrawing lets one person decide alone."""
    policy(house, USD=100_000)
    instance_id = parked(house)
    decision_id = proposed(house, instance_id)
    policy(house)
    with pytest.raises(Conflict, match="ann proposed 'happened' already"):
        judge(house, instance_id, actor="bob")
    with house.office.begin() as tx:
        assert attention.policy_of(tx, "default").two_person_above == {}
    withdraw(house.office, decision_id, Actor(name="ann", reason="slip"), tenant_id=None)
    assert state_of(house, decision_id) == "withdrawn"
    agree(house, proposed(house, instance_id))
    assert house.step(instance_id).state == "completed"
    changes = house.sql("SELECT body FROM audit_log WHERE action = 'policy.changed' ORDER BY id")
    assert changes[1].body["before"] == {"two_person_above": {"USD": 100_000}}
    assert changes[1].body["after"] == {"two_person_above": {}}


@pytest.mark.usefixtures("bank")
def test_of_many_who_decide_at_once_exactly_one_wins(house: House) -> None:
    """The others are told that there is nothing to decide any more, or that a decision is open."""
    instance_id = parked(house)

    def one(n: int) -> bool:
        try:
            judge(house, instance_id, actor=f"person {n}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(8))) == [False] * 7 + [True]
    assert house.actions(instance_id, NODE).count("step.resolved") == 1


@pytest.mark.usefixtures("bank")
def test_of_many_who_confirm_or_withdraw_at_once_exactly_one_wins(house: House) -> None:
    """It is carried out once, or not at all."""
    policy(house, USD=0)
    instance_id = parked(house)
    decision_id = proposed(house, instance_id)

    def one(n: int) -> bool:
        who = Actor(name=f"person {n}", reason="me, too")
        try:
            if n % 2:
                withdraw(house.office, decision_id, who, tenant_id=None)
            else:
                confirm(house.office, decision_id, who, tenant_id=None)
        except Orch8Error:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(8))) == [False] * 7 + [True]
    carried_out = house.step(instance_id).state == "completed"
    assert state_of(house, decision_id) == ("carried_out" if carried_out else "withdrawn")


@pytest.mark.usefixtures("bank")
def test_other_tenants_see_no_decision(house: House) -> None:
    """They cannot confirm or withdraw it either."""
    policy(house, USD=0)
    decision_id = proposed(house, parked(house))
    who = Actor(name="eve", reason="curious")
    for verb in (confirm, withdraw):
        with pytest.raises(NotFound):
            verb(house.office, decision_id, who, tenant_id="other")


def test_threshold_that_is_none_is_refused(house: House) -> None:
    """The problem points at the currency."""
    for wrong in ({"USD": -1}, {"USD": 1.5}, {"USD": True}, {"usd": 1}, {"$": 1}, {"USD": "1"}):
        with house.office.begin() as tx, pytest.raises(InvalidArgument) as refused:
            put_policy(tx, "default", wrong, actor="boss")
        assert refused.value.errors[0].pointer.startswith("/two_person_above/")
