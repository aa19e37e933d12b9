"""router: the first route whose condition holds. The choice is made once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from orch8.blocks.fields import Blocks, Flag, Many, Part, Text
from orch8.blocks.schema import Base, BlockSchema, Draft, Slot
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Done, Move, Run

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition


@dataclass(frozen=True, kw_only=True)
class Router(Block):
    """The first route whose condition holds, else the default, else nothing."""

    type: ClassVar[str] = "router"

    routes: tuple[tuple[Condition, Chain], ...] = ()
    default: Chain | None = None

    def chains(self) -> Iterable[Block]:
        yield from (chain for _, chain in self.routes)
        if self.default is not None:
            yield self.default

    def start(self, at: NodeKey, scope: Scope) -> Move:
        for condition, chain in self.routes:
            if scope.truthy(condition, at):
                return Run((at.child(chain.id),))
        return Run((at.child(self.default.id),)) if self.default is not None else Done()


class RouteSchema(Base):
    """One way to go, with its condition or as the default."""

    condition = Text(blank=False)
    default = Flag()
    blocks = Blocks(required=True)


class RouterSchema(BlockSchema):
    """``{"type": "router", "routes": [{"condition": ..., "blocks": [...]}], "default": [...]}``."""

    type = "router"
    block = Router

    routes = Many(Part(RouteSchema))
    default = Blocks()

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        for i, name, route in _named(raw.get("routes")):
            yield Slot(name, f"/routes/{i}/blocks", route.get("blocks"))
        if raw.get("default") is not None:
            yield Slot("default", "/default", raw["default"])

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        routes = [
            {"condition": route.get("condition"), "blocks": inside.get(name, [])}
            for _, name, route in _named(raw.get("routes"))
            if name != "default"
        ]
        default = {"default": inside["default"]} if "default" in inside else {}
        rest = {k: v for k, v in raw.items() if k not in ("routes", "default")}
        return {**rest, "routes": routes, **default}

    def build(self, draft: Draft) -> Router:
        routes = []
        defaults = 1 if "default" in draft.values else 0
        for i, name, route in _named(draft.values.get("routes")):
            at, condition = f"/routes/{i}/condition", route.get("condition")
            compiled = draft.condition(condition, at)
            if name == "default":
                defaults += 1
                if condition is not None:
                    draft.problem(at, "a default route has no condition")
            elif condition is None:
                hint = 'write a condition, or "default": true for the route to take else'
                draft.problem(at, "condition is required", hint, shape=True)
            elif compiled is not None:
                routes.append((compiled, draft.chain(name)))
        if defaults > 1:
            draft.problem("/routes", "there is more than one default", "keep one of them")
        if not defaults and not draft.raw.get("routes"):
            draft.problem("/routes", "a router needs a route or a default")
        default = draft.chain("default") if defaults else None
        return Router(id=draft.id, when=draft.when, routes=tuple(routes), default=default)


def _named(routes: Any) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Each route with its place and the name of its slot; a default does not count as a number."""
    number = 0
    for i, route in enumerate(routes if isinstance(routes, list) else ()):
        if not isinstance(route, dict):
            continue
        is_default = route.get("default") is True
        yield i, "default" if is_default else str(number), route
        number += not is_default
