"""What of a call crosses, and what stays where it is: the bill, before anything is paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from remora.core.units import format_bytes
from remora.remote.graph.capture import Captured
from remora.remote.graph.nodes import Graph, slots_in
from remora.remote.graph.plan import Planner
from remora.remote.graph.program import Program
from remora.remote.graph.residency import Residency, residency

_META = torch.device("meta")
_NO_LIMIT = 2**62
_WHEN = {
    Residency.WEIGHT: "go up once",
    Residency.STATE: "stay with a session",
    Residency.INPUT: "go up with every call",
    Residency.OUTPUT: "come back from every call",
    Residency.ACTIVATION: "are made and freed there, so many bytes at their fullest",
}


@dataclass(frozen=True)
class Item:
    """The values of one class."""

    residency: Residency
    values: int
    bytes: int


@dataclass(frozen=True)
class Bill:
    """One call's values by class. As text it is a table."""

    items: tuple[Item, ...]

    def bytes_of(self, residency: Residency) -> int:
        """What the values of that class take."""
        return sum(item.bytes for item in self.items if item.residency is residency)

    def __str__(self) -> str:
        return "\n".join(
            f"{item.residency.value:<10} {item.values:>6} values {format_bytes(item.bytes):>10}  "
            f"{_WHEN[item.residency]}"
            for item in self.items
        )


def bill_of(
    captured: Captured, tensors: Sequence[torch.Tensor], overrides: Mapping[str, str] | None = None
) -> Bill:
    """Of a call with those ``tensors``.

    Args:
        overrides: classes by name, as :func:`~remora.remote.graph.residency.residency` takes them.

    Raises:
        UnknownName, BadValue: an override that cannot be.
    """
    graph = captured.graph
    classes = residency(graph, overrides)
    sizes = _sizes(graph, captured.tensors, tensors)
    items = []
    for each in Residency:
        slots = [slot for slot, found in classes.items() if found is each]
        size = sum(sizes.get(slot, 0) for slot in slots)
        if each is Residency.ACTIVATION:
            size = Planner(graph, _NO_LIMIT).needs(tuple(tuple(t.shape) for t in tensors))
        items.append(Item(each, len(slots), size))
    return Bill(tuple(items))


def _sizes(
    graph: Graph, weights: Mapping[str, torch.Tensor], tensors: Sequence[torch.Tensor]
) -> Mapping[int, int]:
    """Bytes of weights, inputs and outputs, by slot. A weight in two places crosses once."""
    once = {weight.digest: weight.slot for weight in graph.weights}
    sizes = {slot: weights[digest].nbytes for digest, slot in once.items()}
    sizes |= {value.slot: t.nbytes for value, t in zip(graph.inputs, tensors, strict=True)}
    slots = [slot for output in graph.outputs for slot in slots_in(output)]
    outputs = [output for output in _outputs(graph, weights, tensors) if _is_tensor(output)]
    return sizes | {slot: out.nbytes for slot, out in zip(slots, outputs, strict=True)}


def _outputs(
    graph: Graph, weights: Mapping[str, torch.Tensor], tensors: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """The outputs' shapes, without computing them."""
    there = {digest: tensor.to(_META) for digest, tensor in weights.items()}
    program = Program(graph, there, _META)
    return program.run([tensor.to(_META) for tensor in tensors])


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
