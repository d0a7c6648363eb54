"""A graph cut where it branches: parts that need nothing of each other, and what comes around them.

A model of pictures and texts reads both before it compares them. Which reads first makes no
difference, so they may be read at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec

from remora.remote.graph.flow import Flow, base
from remora.remote.graph.nodes import Graph
from remora.remote.graph.parts import HEAVY, branches
from remora.remote.graph.program import last_uses

_WORTH = 8
"""Heavy operators that a branch has at least: for fewer, another thread costs what it gains."""


@dataclass(frozen=True)
class Split:
    """A graph, its nodes in another order: those before the branches, each branch, those after."""

    graph: Graph
    order: tuple[int, ...]
    """For each node its place in the graph as it came."""
    branches: tuple[range, ...]
    """The places of each branch's nodes in this order."""
    freed: tuple[tuple[int, ...], ...]
    """For each node the slots that nobody reads any more when it has run, whichever branch is
    ahead; what two of them read is not among them."""

    @property
    def before(self) -> range:
        """The nodes that come before all branches."""
        return range(self.branches[0].start)

    @property
    def after(self) -> range:
        """The nodes that come after all branches."""
        return range(self.branches[-1].stop, len(self.order))


def split(graph: Graph) -> Split | None:
    """``graph`` cut where it branches; None where it does not, or too little is in the branches."""
    flow = Flow(graph)
    parts = [
        branch.nodes
        for branch in branches(flow)
        if sum(base(graph.nodes[index]) in HEAVY for index in branch.nodes) >= _WORTH
    ]
    if len(parts) < 2:
        return None
    inside = set(chain.from_iterable(parts))
    before = _needed_before(flow, inside)
    after = [i for i in range(len(graph.nodes)) if i not in inside and i not in before]
    order = (*sorted(before), *chain.from_iterable(parts), *after)
    places, start = [], len(before)
    for part in parts:
        places.append(range(start, start + len(part)))
        start += len(part)
    reordered = msgspec.structs.replace(graph, nodes=tuple(graph.nodes[i] for i in order))
    return Split(reordered, order, tuple(places), _freed(reordered, places))


def _needed_before(flow: Flow, inside: set[int]) -> set[int]:
    """What depends on no input: a branch depends on its own inputs, and on this."""
    nodes = flow.graph.nodes
    return {
        index
        for index, node in enumerate(nodes)
        if index not in inside
        and not any(flow.comes_from[slot] for slot in node.outputs if slot is not None)
    }


def _freed(graph: Graph, places: Sequence[range]) -> tuple[tuple[int, ...], ...]:
    freed = [tuple(slots) for slots in last_uses(graph)]
    for branch in places:
        own = {slot for index in branch for slot in graph.nodes[index].outputs}
        for index in branch:
            freed[index] = tuple(slot for slot in freed[index] if slot in own)
    return tuple(freed)
