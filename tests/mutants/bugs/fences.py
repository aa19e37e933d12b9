"""Mutants of fences, and of what is counted against card-network budgets."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FENCES: Final = "tests/integration/test_runtime_fences.py::"
_MINE: Final = "tests/integration/test_money_fences.py::"
_BUDGETS: Final = "tests/integration/test_runtime_budgets.py::"

MUTANTS: Final = (
    Mutant(
        "fence_not_taken_by_a_claim",
        "Two instances charge the same invoice at once.",
        "orch8/runtime/claim.py",
        "    behind = fencing.stand_back(fencing.TxFences(tx), taken, moment)\n",
        "    behind: list[Task] = []\n",
        (f"{_FENCES}test_fence_makes_a_second_instance_wait_for_a_charge_in_doubt",),
    ),
    Mutant(
        "fence_not_taken_by_a_follow_up",
        "A step that is claimed in the settle of the one before it asks nobody for its fence.",
        "orch8/runtime/settle.py",
        "    behind = stand_back(TxFences(tx), result.tasks, moment, passed)\n",
        "    behind: list[Task] = []\n",
        (f"{_MINE}test_fence_stops_a_follow_up_too",),
    ),
    Mutant(
        "fence_not_taken_by_a_pull_worker",
        "A pull worker is handed a charge while another instance's is in doubt.",
        "orch8/runtime/pull.py",
        "    behind = stand_back("
        "TxFences(tx), [task for run, _ in works for task in run.tasks], moment)\n",
        "    behind: list[Task] = []\n",
        (f"{_MINE}test_fence_stops_a_pull_worker_too",),
    ),
    Mutant(
        "fence_refusal_ignored",
        "Whoever does not get the fence is sent all the same.",
        "orch8/runtime/fencing.py",
        "refused = [task for task in wanting if _named(task.row) not in taken]",
        "refused: list[Task] = []",
        (f"{_FENCES}test_fence_makes_a_second_instance_wait_for_a_charge_in_doubt",),
    ),
    Mutant(
        "fence_never_free",
        "A charge that has ended keeps its fence, and the next one waits forever.",
        "orch8/runtime/doubts.py",
        "    if row.fence is not None and row.state not in LIVE:\n",
        "    if False:\n",
        (f"{_MINE}test_fence_is_free_as_soon_as_its_charge_has_ended",),
    ),
    Mutant(
        "fence_free_while_in_doubt",
        "A charge in doubt lets go of its fence, and another instance charges beside it.",
        "orch8/runtime/doubts.py",
        "    if row.fence is not None and row.state not in LIVE:\n",
        "    if row.fence is not None:\n",
        (f"{_FENCES}test_fence_is_held_while_a_step_may_be_moving_money_and_free_afterwards",),
    ),
    Mutant(
        "fence_free_while_the_customer_acts",
        "A payment waits for its customer, and another one is made beside it.",
        "orch8/runtime/doubts.py",
        "waits = row.outcome == Verdict.REQUIRES_ACTION",
        "waits = False",
        (f"{_FENCES}test_fence_is_kept_while_the_customer_has_to_act",),
    ),
    Mutant(
        "fence_of_a_finished_instance_kept",
        "An instance ends while its customer may still act, and its fence is never free again.",
        "orch8/runtime/run.py",
        "            if self.published.fenced:\n"
        '                changes.let_go.append(Hold(row.tenant_id, "", row.id, None))\n',
        "",
        (f"{_FENCES}test_fence_is_kept_while_the_customer_has_to_act",),
    ),
    Mutant(
        "fence_no_matter_within_an_instance",
        "A branch takes the fence of another branch whose charge is in doubt.",
        "orch8/storage/fences.py",
        "AND (f.node_key = excluded.node_key OR f.settled\n",
        "AND (true\n",
        (f"{_MINE}test_fence_holds_back_the_other_branch_of_a_charge_in_doubt",),
    ),
    Mutant(
        "fence_superseded_in_doubt",
        "on_fence supersede takes over from a charge whose outcome is unknown.",
        "orch8/storage/fences.py",
        "OR (f.settled AND (f.tenant_id, f.fence) IN (",
        "OR ((f.tenant_id, f.fence) IN (",
        (f"{_FENCES}test_fence_is_superseded_only_where_the_customer_has_to_act",),
    ),
    Mutant(
        "fence_of_a_sibling_freed",
        "A step that ends lets go of its instance's other fences, one of which guards a doubt.",
        "orch8/storage/fences.py",
        "(f.tenant_id, f.fence, f.node_key) = (r.t, r.f, r.k)",
        "f.fence IS NOT NULL",
        (f"{_MINE}test_fence_of_one_step_is_not_freed_by_another",),
    ),
    Mutant(
        "budget_counted_when_planned",
        "A charge that waits behind a fence counts against its card though nothing was sent.",
        "orch8/runtime/claim.py",
        "changes = Changes(counted=budgets.counted(sent, moment.at))",
        "changes = Changes(counted=budgets.counted(taken, moment.at))",
        (f"{_MINE}test_charge_behind_a_fence_is_not_counted",),
    ),
    Mutant(
        "budget_counted_though_given_back",
        "A charge that its rate limit gave back unsent counts against its card.",
        "orch8/runtime/settle.py",
        "    budgets.void(run, row)\n",
        "",
        (f"{_MINE}test_charge_that_was_given_back_is_not_counted",),
    ),
    Mutant(
        "budget_forgets_follow_ups",
        "A charge that follows in one commit is not counted against its card.",
        "orch8/runtime/settle.py",
        "    changes.counted += budgets.counted(result.tasks, moment.at)\n",
        "",
        (f"{_BUDGETS}test_follow_up_is_counted_too",),
    ),
    Mutant(
        "budget_forgets_doubts",
        "An attempt whose outcome is unknown is taken off its card's count.",
        "orch8/runtime/budgets.py",
        "UNREACHED: Final = frozenset({Verdict.NOT_SENT, Verdict.REFUSED, Verdict.FAILED_SAFE})",
        "UNREACHED: Final = frozenset({Verdict.NOT_SENT, Verdict.REFUSED, Verdict.FAILED_SAFE, "
        "Verdict.UNKNOWN})",
        (f"{_MINE}test_charge_in_doubt_is_counted",),
    ),
)
