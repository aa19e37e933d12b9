"""for_each: the body once for each item of a collection that is fixed on entry."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.for_each import MOST, PAGE, ForEach, is_page, page_of, pages_from
from orch8.blocks.parallel import Parallel
from orch8.engine.events import Started
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Memo
from orch8.engine.outcome import CANCELLED, COMPLETED, Status
from orch8.engine.scope import OutputRef
from tests.support.definitions import Said, chain, index_of, word
from tests.support.shell import BOOM, Shell, failing, started


class _Listening(Said):
    """Words that remember what was memoized."""

    heard: dict[NodeKey, Any]

    def memoized(self, key: NodeKey, output: Any) -> None:
        self.__dict__.setdefault("heard", {})[key] = output


def _each(collection: str = "items:3", **more: Any) -> ForEach:
    return ForEach(id="each", collection=word(collection), body=chain("b", "pay"), **more)


def test_for_each_runs_its_body_once_for_each_item_in_order() -> None:
    """One item after another, unless told otherwise."""
    shell = started(_each())
    assert shell.scheduled == ["pay[0]"]
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay[0]", "pay[1]", "pay[2]"]


@pytest.mark.parametrize("collection", [[], None, "text", {"a": 1}, 5])
def test_for_each_of_no_items_completes(collection: Any) -> None:
    """Empty, missing, or no list at all: nothing to do, and no failure."""
    shell = started(_each("collection"), collection=collection)
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == []


def test_for_each_memoizes_its_items_on_entry_in_pages() -> None:
    """Later changes of the collection do not reach it, and it leaves the collection alone."""
    items = [{"id": n} for n in range(PAGE + 1)]
    shell = started(_each("items_due", max_iterations=5000), items_due=items)
    memos = {e.key: e.output for e in shell.effects if isinstance(e, Memo)}
    assert list(map(str, memos)) == ["each@items[0]", "each@items[1]"]
    assert list(memos.values()) == [items[:PAGE], items[PAGE:]]
    assert memos[page_of(NodeKey("each"), PAGE)][0] == {"id": PAGE}


def test_pages_are_asked_for_with_those_behind_them() -> None:
    """Within the same outer iteration, and none that cannot be; other outputs alone."""
    page = page_of(NodeKey("each", (4,)), 2 * PAGE)
    ref = OutputRef(page.block_id, page.path, exact=True)
    assert is_page(ref)
    assert [each.path for each in pages_from(ref, 3)] == [(4, 2), (4, 3), (4, 4)]
    last = ref._replace(path=(4, MOST // PAGE - 1))
    assert list(pages_from(last, 8)) == [last]
    other = OutputRef("pay", (0,), exact=True)
    assert list(pages_from(other, 8)) == [other]


def test_first_item_is_known_when_its_body_begins() -> None:
    """The page is handed to the values in the turn that makes it, before the first child starts."""
    values = _Listening()
    shell = Shell(index_of(_each()), values)
    shell.feed(Started())
    assert values.heard == {NodeKey("each@items", (0,)): [0, 1, 2]}


def test_for_each_takes_no_more_than_max_iterations() -> None:
    """The rest of the collection is left out, and stays in it."""
    items = list(range(5))
    shell = started(_each("items_due", max_iterations=2), items_due=items)
    shell.run()
    assert shell.scheduled == ["pay[0]", "pay[1]"]
    assert items == list(range(5))


def test_for_each_runs_at_most_concurrency_items_at_a_time() -> None:
    """As one ends the next begins."""
    shell = started(_each("items:4", concurrency=2))
    assert shell.scheduled == ["pay[0]", "pay[1]"]
    shell.answer("pay[1]")
    assert shell.scheduled == ["pay[0]", "pay[1]", "pay[2]"]
    assert shell.run() == COMPLETED


def test_for_each_with_more_concurrency_than_items_runs_them_all() -> None:
    """It completes with the last of them."""
    shell = started(_each("items:2", concurrency=9))
    assert shell.scheduled == ["pay[0]", "pay[1]"]
    assert shell.run() == COMPLETED


def test_for_each_ends_with_the_first_failure() -> None:
    """No further item starts, the live ones stop."""
    shell = started(_each("items:4", concurrency=2))
    shell.answer("pay[1]", BOOM)
    assert shell.snapshot.outcome == BOOM
    assert shell.outcome_of("pay[0]") == CANCELLED
    assert shell.scheduled == ["pay[0]", "pay[1]"]


def test_for_each_says_where_the_item_of_an_iteration_is() -> None:
    """Blocks inside find their item by the page's memo and its place in it."""
    each = _each(item_var="payout")
    assert each.item_ref((7, PAGE + 3)) == ("payout", NodeKey("each@items", (7, 1)), 3)


def test_for_each_retried_repeats_no_item_and_keeps_its_collection() -> None:
    """It goes on with the failed item, though the collection is another by then."""
    items = [1, 2, 3]
    shell = started(_each("items_due"), items_due=items, answers=failing("pay", until=1))
    shell.run()
    shell.retry()
    items.append(4)
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == ["pay[0]", "pay[0]~2", "pay[1]~2", "pay[2]~2"]
    assert [str(e.key) for e in shell.effects if isinstance(e, Memo)] == ["each@items[0]"]


def test_for_each_retried_runs_concurrency_items_again() -> None:
    """Where one item failed and others are left, it fills its window."""
    shell = Shell(
        index_of(_each("items:5", concurrency=3)), answers=failing("pay", until=1)
    ).start()
    shell.call("pay[1]", "pay[2]")
    shell.answer("pay[0]", BOOM)
    shell.answer("pay[1]", COMPLETED)
    shell.answer("pay[2]", COMPLETED)
    assert shell.retry() == COMPLETED
    assert shell.scheduled[3:] == ["pay[0]~2", "pay[3]~2", "pay[4]~2"]


def test_for_each_stopped_between_items_goes_on_with_the_next() -> None:
    """A payout that went out while it was being stopped does not go out again."""
    branches = (chain("x", _each("items:2")), chain("y", "check"))
    shell = started(Parallel(id="all", branches=branches, fail="fast"))
    shell.call("pay[0]")
    shell.answer("check", BOOM)
    shell.answer("pay[0]")
    assert shell.outcome_of("each") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["check", "pay[0]", "check~2", "pay[1]~2"]


def test_for_each_whose_collection_is_broken_fails() -> None:
    """A retry evaluates it anew: nothing was decided yet."""
    shell = started(_each("broken"), broken=None)
    assert shell.snapshot.outcome == COMPLETED
    shell = Shell(index_of(_each("broken")), Said(broken_until=1)).start()
    assert shell.run().status is Status.FAILED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay[0]~2", "pay[1]~2"]
