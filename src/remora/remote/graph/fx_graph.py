"""A graph as torch's compiler takes it: a module of torch.fx, of the same operators.

Torch writes Python for such a module, and its compiler C++. All names in that are made here or by
torch; of the graph there are operators of the allow-list, numbers, and words of a fixed form.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from remora.core.errors import Refused
from remora.remote.graph.nodes import Argument, Graph, Many, Named, Node, Slot
from remora.remote.graph.operators import UNFILLED, object_of, resolve
from remora.remote.graph.program import keywords_of

_WORD = re.compile(r"[a-z_]{1,20}")
"""What operators take as text: ``tanh``, ``none``, ``reflect``."""


def as_fx(
    graph: Graph, weights: Mapping[str, torch.Tensor], device: torch.device
) -> fx.GraphModule:
    """What gives the graph's outputs, as a tuple, for its inputs in order.

    Args:
        graph: one that :func:`~remora.remote.graph.validation.validate` has passed.
        weights: tensors by digest, on ``device``.

    Raises:
        Refused: it holds what is not compiled: text, or memory that nobody fills.
    """
    return _Translation(graph, weights, device).module


class _Translation:
    def __init__(
        self, graph: Graph, weights: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        self._device, self._made = device, dict[int, fx.Node]()
        root, self._fx = torch.nn.Module(), fx.Graph()
        for index, value in enumerate(graph.inputs):
            self._made[value.slot] = self._fx.placeholder(f"input_{index}")
        for index, weight in enumerate(graph.weights):
            root.register_buffer(f"weight_{index}", weights[weight.digest])
            self._made[weight.slot] = self._fx.get_attr(f"weight_{index}")
        for node in graph.nodes:
            self._add(node)
        self._fx.output(tuple(self._argument(output) for output in graph.outputs))
        self.module = fx.GraphModule(root, self._fx, class_name="Compiled")

    def _add(self, node: Node) -> None:
        if node.operator.split(".")[1] in UNFILLED:
            raise Refused(f"{node.operator} gives memory as it is found, and is not compiled")
        function: Any = resolve(node.operator)
        made = self._fx.call_function(
            getattr(function, "function", function),
            tuple(self._argument(one) for one in node.arguments),
            {name: self._argument(one) for name, one in keywords_of(node).items()},
        )
        if not node.unpacks:
            (output,) = node.outputs
            if output is not None:
                self._made[output] = made
            return
        for index, output in enumerate(node.outputs):
            if output is not None:
                self._made[output] = self._fx.call_function(operator.getitem, (made, index))

    def _argument(self, argument: Argument) -> Any:
        if isinstance(argument, Slot):
            return self._made[argument.index]
        if isinstance(argument, Many):
            return [self._argument(item) for item in argument.items]
        if isinstance(argument, Named):
            return object_of(argument.kind, argument.name, self._device)
        if isinstance(argument, str) and not _WORD.fullmatch(argument):
            raise Refused("a graph with text in it is not compiled")
        return argument
