"""Where each value of a graph belongs: on the server for good, to a session, to one call.

Found by structure, not by names. Session state is what goes in and comes out again, longer or in
part replaced; and what attention takes as keys or values straight from outside, which must be of
something that was read before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from remora.core.errors import BadValue, UnknownName
from remora.remote.graph.flow import Flow, base, is_layout, items_at, slot_at
from remora.remote.graph.nodes import Graph
from remora.remote.graph.parts import attentions


class Residency(StrEnum):
    """The classes of values."""

    WEIGHT = "weight"
    """The same in every call: stays with the model. So does what is made of weights alone."""
    STATE = "state"
    """Belongs to a session: stays while it does."""
    ACTIVATION = "activation"
    """Made and used up within a call."""
    INPUT = "input"
    """Comes with a call."""
    OUTPUT = "output"
    """Goes back from a call."""


_REPLACES = frozenset(
    {"index_copy", "slice_scatter", "select_scatter", "index_put", "scatter", "scatter_add"}
)
_MAY_BE: Mapping[str, frozenset[Residency]] = {
    "weights": frozenset({Residency.WEIGHT, Residency.INPUT}),
    "inputs": frozenset({Residency.INPUT, Residency.STATE, Residency.WEIGHT}),
    "outputs": frozenset({Residency.OUTPUT, Residency.STATE}),
}


def residency(graph: Graph, overrides: Mapping[str, str] | None = None) -> Mapping[int, Residency]:
    """The class of the value in each slot.

    Args:
        overrides: classes by name, where the user knows better. Names are those of weights,
            ``inputs.0`` and ``outputs.0`` and so on; the beginning of a path, up to a dot, stands
            for all below it.

    Raises:
        UnknownName: there is no such name, or no such class.
        BadValue: a value cannot be of that class: an output no weight, say.
    """
    flow = Flow(graph)
    found = _by_origin(flow)
    found |= dict.fromkeys(_state(flow), Residency.STATE)
    for name, chosen in (overrides or {}).items():
        found |= dict.fromkeys(_named(graph, name, _class(chosen)), _class(chosen))
    return found


def state_pairs(flow: Flow) -> Mapping[int, int]:
    """State in and state out: for each input that comes out longer, by its slot, that output."""
    pairs: dict[int, int] = {}
    for value in flow.graph.inputs:
        for slot in _grown(flow, value.slot):
            if slot in flow.outputs:
                pairs[value.slot] = slot
    return pairs


def keys_and_values(flow: Flow) -> frozenset[int]:
    """The inputs, by slot, that attention takes as keys or values, as they came or grown."""
    taken = {slot for each in attentions(flow) for slot in (each.keys, each.values)}
    return frozenset(
        value.slot for value in flow.graph.inputs if taken & _reached(flow, value.slot)
    )


def _by_origin(flow: Flow) -> dict[int, Residency]:
    found = {
        slot: Residency.ACTIVATION if bits else Residency.WEIGHT
        for slot, bits in flow.comes_from.items()
    }
    found |= dict.fromkeys((value.slot for value in flow.graph.inputs), Residency.INPUT)
    return found | dict.fromkeys(flow.outputs, Residency.OUTPUT)


def _state(flow: Flow) -> Iterator[int]:
    for before, after in state_pairs(flow).items():
        yield from (before, after)
    yield from keys_and_values(flow)


def _grown(flow: Flow, slot: int) -> Iterator[int]:
    """What ``slot`` becomes with something added or replaced, again and again."""
    waiting = [slot]
    while waiting:
        current = waiting.pop()
        for index in flow.readers[current]:
            node = flow.graph.nodes[index]
            out = node.outputs[0]
            if out is not None and (
                _appends(flow, index, current) or _replaces(flow, index, current)
            ):
                yield out
                waiting.append(out)


def _appends(flow: Flow, index: int, slot: int) -> bool:
    """Whether the node joins ``slot`` with something that was computed, and not just come in."""
    node = flow.graph.nodes[index]
    items = items_at(node, 0) if base(node) == "cat" else []
    others = [item for item in items if item != slot]
    return len(items) == 2 and len(others) == 1 and others[0] in flow.made_by


def _replaces(flow: Flow, index: int, slot: int) -> bool:
    node = flow.graph.nodes[index]
    return base(node) in _REPLACES and slot_at(node, 0) == slot


def _reached(flow: Flow, slot: int) -> set[int]:
    """``slot``, what it grows to, and both in whatever layout."""
    reached: set[int] = set()
    for origin in (slot, *_grown(flow, slot)):
        reached.add(origin)
        for index, _ in flow.ahead(origin, is_layout):
            node = flow.graph.nodes[index]
            if is_layout(node) and slot_at(node, 0) is not None:
                reached |= {out for out in node.outputs if out is not None}
    return reached


def _class(chosen: str) -> Residency:
    try:
        return Residency(chosen)
    except ValueError:
        raise UnknownName("residency", chosen, [each.value for each in Residency]) from None


def _named(graph: Graph, name: str, chosen: Residency) -> set[int]:
    names = _names(graph)
    below = {each for each in names if each == name or each.startswith(f"{name}.")}
    if not below:
        raise UnknownName("value", name, names)
    for each in sorted(below):
        kind = names[each][0]
        if chosen not in _MAY_BE[kind]:
            valid = ", ".join(sorted(_MAY_BE[kind]))
            raise BadValue(f"{each} cannot be of class {chosen.value!r}; choose from: {valid}")
    return {names[each][1] for each in below}


def _names(graph: Graph) -> Mapping[str, tuple[str, int]]:
    """For each name what kind of thing it is, and its slot."""
    flow = Flow(graph)
    return {
        **{weight.name: ("weights", weight.slot) for weight in graph.weights},
        **{f"inputs.{i}": ("inputs", value.slot) for i, value in enumerate(graph.inputs)},
        **{f"outputs.{i}": ("outputs", slot) for i, slot in enumerate(flow.outputs)},
    }
