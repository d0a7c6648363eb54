"""What a call will need, before it runs: shapes and memory, worked out without any memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch

from remora.core.errors import Refused
from remora.core.units import format_bytes
from remora.remote.graph.live import Live
from remora.remote.graph.nodes import Graph, Node, Value, slots_in, slots_read
from remora.remote.graph.program import NodeFailed, Program, Values, last_uses
from remora.remote.graph.split import Split, split

_META = torch.device("meta")
Shapes = tuple[tuple[int, ...], ...]


class Planner:
    """The memory that calls of one graph need, by the shapes of their inputs.

    Args:
        graph: validated.
        limit_bytes: the most that all values of one call may take at a time, inputs among them,
            weights not.
    """

    def __init__(self, graph: Graph, limit_bytes: int) -> None:
        self._limit, self._parts = limit_bytes, split(graph)
        whole = _holding_all(graph if self._parts is None else self._parts.graph)
        weights = {weight.digest: _empty(weight.dtype, weight.dims) for weight in graph.weights}
        self._weights = tuple(weights.values())
        self._program = Program(whole, weights, _META, freed=[()] * len(whole.nodes))
        self._freed = last_uses(whole) if self._parts is None else _with_unread(whole, self._parts)
        self._known: dict[Shapes, int] = {}

    def needs(self, shapes: Shapes) -> int:
        """Bytes that all values of a call take at its fullest.

        Raises:
            Refused: more than the limit, or shapes that do not go together.
        """
        peak = self._known.get(shapes)
        if peak is None:
            peak = self._known[shapes] = self._worked_out(shapes)
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        if peak > self._limit:
            raise Refused(
                f"a call with inputs of {_shown(shapes)} needs {format_bytes(peak)}; "
                f"at most {format_bytes(self._limit)} are given to one"
            )
        return peak

    def _worked_out(self, shapes: Shapes) -> int:
        inputs = [
            _empty(value.dtype, shape)
            for value, shape in zip(self._program.graph.inputs, shapes, strict=True)
        ]
        return self._peak_bytes(inputs)

    @torch.inference_mode()
    def _peak_bytes(self, inputs: Sequence[torch.Tensor]) -> int:
        """Runs the graph on shapes alone; stops where it is beyond the limit."""
        live, values = Live(self._weights), self._program.begin(inputs)
        # The caller holds the inputs to the end, whichever node reads them last.
        peak = live.add({-1 - index: tensor for index, tensor in enumerate(inputs)})
        if self._parts is None:
            return self._run(range(len(self._program.steps)), values, live, peak)
        peak = self._run(self._parts.before, values, live, peak)
        # At worst each branch takes the most it does while the others do.
        more = 0
        for branch in self._parts.branches:
            held = live.bytes_held
            more += self._run(branch, values, live, held, held + self._limit) - held
            if peak + more > self._limit:
                return peak + more
        return self._run(self._parts.after, values, live, peak + more)

    def _run(
        self, places: range, values: Values, live: Live, peak: int, limit: int | None = None
    ) -> int:
        """The most bytes held while the nodes at ``places`` run, or ``peak`` if that is more."""
        program, limit = self._program, self._limit if limit is None else limit
        for index in places:
            if peak > limit:
                break
            try:
                program.steps[index](values)
            except Exception as error:  # of any kind: torch has many ways to say no
                raise self._failed(index, error) from error
            outputs = program.graph.nodes[index].outputs
            peak = max(peak, live.add({slot: values[slot] for slot in outputs if slot is not None}))
            for slot in self._freed[index]:
                values[slot] = None
            live.drop(self._freed[index])
        return peak

    def _failed(self, index: int, error: Exception) -> NodeFailed:
        named = self._program.failed(index, error)
        place = index if self._parts is None else self._parts.order[index]
        return NodeFailed(place, named.operator, named.reason)


_REMEMBERED = 1024


def check_inputs(expected: Sequence[Value], tensors: Sequence[torch.Tensor]) -> None:
    """Whether ``tensors`` are what a graph takes.

    Raises:
        Refused: another number, dtype, or a fixed dim of another size.
    """
    if len(expected) != len(tensors):
        raise Refused(f"{len(tensors)} inputs; this model takes {len(expected)}")
    for index, (value, tensor) in enumerate(zip(expected, tensors, strict=True)):
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != value.dtype:
            raise Refused(f"input {index} is {dtype}; this model takes {value.dtype}")
        fits = len(value.dims) == tensor.dim() and all(
            want in (-1, size) for want, size in zip(value.dims, tensor.shape, strict=True)
        )
        if not fits:
            want = ", ".join("any" if size < 0 else str(size) for size in value.dims)
            raise Refused(
                f"input {index} has shape {list(tensor.shape)}; this model takes [{want}]"
            )


def _empty(dtype: str, dims: Sequence[int]) -> torch.Tensor:
    return torch.empty(tuple(dims), dtype=getattr(torch, dtype), device=_META)


def _holding_all(graph: Graph) -> Graph:
    """``graph``, with slots for what nodes give and nobody reads: it is made all the same."""
    slots = graph.slots
    nodes: list[Node] = []
    for node in graph.nodes:
        outputs = tuple(
            slots + index if slot is None else slot for index, slot in enumerate(node.outputs)
        )
        slots += len(outputs)
        nodes.append(msgspec.structs.replace(node, outputs=outputs))
    return msgspec.structs.replace(graph, slots=slots, nodes=tuple(nodes))


def _with_unread(graph: Graph, parts: Split) -> Sequence[Sequence[int]]:
    """What is freed behind each node of ``parts``, and of ``graph`` what nobody reads."""
    read = {slot for node in graph.nodes for slot in slots_read(node)}
    read |= {slot for output in graph.outputs for slot in slots_in(output)}
    return [
        (*freed, *(s for s in node.outputs if s is not None and s not in read and s not in freed))
        for freed, node in zip(parts.freed, graph.nodes, strict=True)
    ]


def _shown(shapes: Shapes) -> str:
    return ", ".join(str(list(shape)) for shape in shapes[:4])
