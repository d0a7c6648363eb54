"""How values flow through a graph: which node makes each, which read it, what it comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from remora.remote.graph.nodes import Graph, Many, Node, Slot, slots_in, slots_read

_LAYOUT = """
    view reshape _unsafe_view transpose t permute expand unsqueeze squeeze clone contiguous to
    _to_copy type_as flatten unflatten slice select split unbind chunk repeat_interleave dropout
"""
LAYOUT = frozenset(_LAYOUT.split())
"""Operators that give the numbers they are given, in another layout, or some of them."""


class Flow:
    """A graph, read along its edges."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[int, list[int]] = defaultdict(list)
        """The nodes that read each slot, in order."""
        self.made_by: dict[int, int] = {}
        """The node that fills each slot, where one does."""
        for index, node in enumerate(graph.nodes):
            for slot in dict.fromkeys(slots_read(node)):
                self.readers[slot].append(index)
            self.made_by.update({slot: index for slot in node.outputs if slot is not None})

    @cached_property
    def outputs(self) -> Sequence[int]:
        """The slots that go out, in order."""
        return [slot for output in self.graph.outputs for slot in slots_in(output)]

    @cached_property
    def comes_from(self) -> dict[int, int]:
        """For each slot the inputs that it depends on: bit n is set for input n."""
        sources = {weight.slot: 0 for weight in self.graph.weights}
        sources |= {value.slot: 1 << index for index, value in enumerate(self.graph.inputs)}
        for node in self.graph.nodes:
            bits = 0
            for slot in slots_read(node):
                bits |= sources[slot]
            sources |= {slot: bits for slot in node.outputs if slot is not None}
        return sources

    def ahead(self, slot: int, through: Callable[[Node], bool]) -> Iterator[tuple[int, int]]:
        """The nodes that read ``slot``, or what nodes that are gone ``through`` make of it.

        Each with the slot by which it does.
        """
        waiting, seen = [slot], {slot}
        while waiting:
            current = waiting.pop()
            for index in self.readers[current]:
                yield index, current
                node = self.graph.nodes[index]
                if through(node):
                    made = {out for out in node.outputs if out is not None} - seen
                    seen |= made
                    waiting += made

    def behind(self, slot: int, through: Callable[[Node], bool]) -> Iterator[int]:
        """The nodes that make ``slot``, or what nodes that are gone ``through`` make it of."""
        waiting, seen = [slot], {slot}
        while waiting:
            index = self.made_by.get(waiting.pop())
            if index is None:
                continue
            yield index
            node = self.graph.nodes[index]
            if through(node):
                read = set(slots_read(node)) - seen
                seen |= read
                waiting += read


def base(node: Node) -> str:
    """The operator's name without family and overload: ``add`` of ``aten.add.Tensor``."""
    return node.operator.split(".")[1]


def is_layout(node: Node) -> bool:
    """Whether it changes nothing but how numbers lie."""
    return base(node) in LAYOUT


def slot_at(node: Node, place: int) -> int | None:
    """The slot that its argument at ``place`` is, if it is one."""
    argument = node.arguments[place] if place < len(node.arguments) else None
    return argument.index if isinstance(argument, Slot) else None


def items_at(node: Node, place: int) -> Sequence[int]:
    """The slots in the list at ``place``."""
    argument = node.arguments[place] if place < len(node.arguments) else None
    return slots_in(argument) if isinstance(argument, Many) else []
