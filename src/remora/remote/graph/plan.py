"""What a call will need, before it runs: shapes and memory, worked out without any memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch

from remora.core.errors import Refused
from remora.core.units import format_bytes
from remora.remote.graph.live import Live
from remora.remote.graph.nodes import Graph, Node, Value
from remora.remote.graph.program import Program

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
        self._graph, self._limit = _holding_all(graph), limit_bytes
        weights = {weight.digest: _empty(weight.dtype, weight.dims) for weight in graph.weights}
        self._weights = tuple(weights.values())
        self._program = Program(self._graph, weights, _META, frees=False)
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
            for value, shape in zip(self._graph.inputs, shapes, strict=True)
        ]
        return self._peak_bytes(inputs)

    @torch.inference_mode()
    def _peak_bytes(self, inputs: Sequence[torch.Tensor]) -> int:
        """Runs the graph on shapes alone; stops where it is beyond the limit."""
        program, live = self._program, Live(self._weights)
        values = program.begin(inputs)
        # The caller holds the inputs to the end, whichever node reads them last.
        peak = live.add({-1 - index: tensor for index, tensor in enumerate(inputs)})
        for index, step in enumerate(program.steps):
            if peak > self._limit:
                break
            try:
                step(values)
            except Exception as error:  # of any kind: torch has many ways to say no
                raise program.failed(index, error) from error
            outputs = program.graph.nodes[index].outputs
            peak = max(peak, live.add({slot: values[slot] for slot in outputs if slot is not None}))
            for slot in program.last_uses[index]:
                values[slot] = None
            live.drop(program.last_uses[index])
        return peak


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


def _shown(shapes: Shapes) -> str:
    return ", ".join(str(list(shape)) for shape in shapes[:4])
