"""Run a graph: each node in turn, every value freed behind its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch

from remora.core.errors import Refused
from remora.remote.graph.asked import Asked
from remora.remote.graph.bindings import function_of
from remora.remote.graph.indices import check_of, looked_at
from remora.remote.graph.nodes import Argument, Graph, Many, Named, Node, Slot, slots_in, slots_read
from remora.remote.graph.operators import UNFILLED, object_of, resolve, schema
from remora.remote.graph.pieces import counted

Values = list[Any]
"""What lies in the slots, and behind them the constants that nodes are given."""
Step = Callable[[Values], None]


class NodeFailed(Refused):
    """An operator would not run on what it was given; says which, by its place in the graph."""

    def __init__(self, node: int, operator: str, reason: str) -> None:
        self.node, self.operator, self.reason = node, operator, reason
        super().__init__(f"node {node} ({operator}) failed: {reason}")


class Program:
    """A graph with its weights, ready to run on their device.

    A run holds the weights, the inputs, and those values that a later node reads. It changes none
    of them, so one program may run in several threads.

    Args:
        graph: one that :func:`~remora.remote.graph.validation.validate` has passed.
        weights: tensors by digest, on ``device``.
        device: where new tensors are made.
        freed: for each node the slots to empty behind it; those that no later node reads by
            default, none for one who empties them.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        *,
        freed: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.graph, self.device = graph, device
        self._values: Values = [None] * graph.slots
        for weight in graph.weights:
            self._values[weight.slot] = weights[weight.digest]
        self._inputs = [value.slot for value in graph.inputs]
        self._freed = freed = last_uses(graph) if freed is None else freed
        self.steps = [
            _step(self, node, tuple(slots)) for node, slots in zip(graph.nodes, freed, strict=True)
        ]
        self._outputs = [self.getter(output) for output in graph.outputs]

    @torch.inference_mode()
    def run(self, inputs: Sequence[torch.Tensor]) -> list[Any]:
        """The graph's outputs for ``inputs``, which are on its device.

        Raises:
            NodeFailed: an operator refuses what it is given, shapes that do not fit for one.
        """
        values = self.begin(inputs)
        reached = 0
        try:
            for reached, step in enumerate(self.steps):  # noqa: B007  read where one fails
                step(values)
        except Exception as error:  # of any kind: torch has many ways to say no
            raise self.failed(reached, error) from error
        return self.outputs_of(values)

    def outputs_of(self, values: Values) -> list[Any]:
        """The graph's outputs, from the values behind the last step."""
        return [output(values) for output in self._outputs]

    def failed(self, node: int, error: Exception) -> NodeFailed:
        """What to raise where ``node`` raised ``error``."""
        return NodeFailed(node, self.graph.nodes[node].operator, first_line(error))

    def asked(self, node: int, values: Values) -> Asked | None:
        """The call that ``node`` is, with what it is given of ``values``. None where its step does
        more than to call: where it looks at indices first, or fills what the operator leaves."""
        said = self.graph.nodes[node]
        operator = resolve(said.operator)
        makes = keywords_of(said) is not said.keywords or said.operator.split(".")[1] in UNFILLED
        if makes or not hasattr(operator, "_schema") or check_of(said.operator) is not None:
            return None
        keywords = {name: self._value(one, values) for name, one in said.keywords.items()}
        return Asked(operator, [self._value(one, values) for one in said.arguments], keywords)

    def keep(self, node: int, made: Any, values: Values) -> None:
        """``node`` was done by somebody else, and ``made`` is what its operator returned."""
        said = self.graph.nodes[node]
        for output, value in zip(said.outputs, made if said.unpacks else (made,), strict=True):
            if output is not None:
                values[output] = value
        for slot in self._freed[node]:
            values[slot] = None

    def _value(self, argument: Argument, values: Values) -> Any:
        if isinstance(argument, Slot):
            return values[argument.index]
        if isinstance(argument, Many):
            return [self._value(item, values) for item in argument.items]
        return self._constant(argument)

    def begin(self, inputs: Sequence[torch.Tensor]) -> Values:
        """The values before the first step."""
        values = self._values.copy()
        for slot, tensor in zip(self._inputs, inputs, strict=True):
            values[slot] = tensor
        return values

    def getter(self, argument: Argument) -> Callable[[Values], Any]:
        """What reads ``argument`` from the values of a run."""
        if isinstance(argument, Many) and _is_made_anew(argument):
            items = self.gathered(argument.items)
            return lambda values: list(items(values))
        return itemgetter(self.place(argument))

    def gathered(self, arguments: Sequence[Argument]) -> Callable[[Values], tuple[Any, ...]]:
        """What reads all ``arguments``, by one call of C where none of them is made anew."""
        if any(map(_is_made_anew, arguments)):
            getters = [self.getter(one) for one in arguments]
            return lambda values: tuple([getter(values) for getter in getters])
        places = [self.place(argument) for argument in arguments]
        if len(places) > 1:
            return itemgetter(*places)
        return lambda values: tuple([values[place] for place in places])

    def place(self, argument: Argument) -> int:
        """Where ``argument`` lies: its slot, or a place behind all slots for a constant."""
        if isinstance(argument, Slot):
            return argument.index
        self._values.append(self._constant(argument))
        return len(self._values) - 1

    def _constant(self, argument: Argument) -> Any:
        if isinstance(argument, Many):
            return [self._constant(item) for item in argument.items]
        if isinstance(argument, Named):
            return object_of(argument.kind, argument.name, self.device)
        return argument


def _step(program: Program, node: Node, freed: tuple[int, ...]) -> Step:
    function, arguments = _function(node, program.device), program.gathered(node.arguments)
    keywords = {name: program.getter(value) for name, value in keywords_of(node).items()}
    if node.unpacks or keywords:
        return _any_step(function, arguments, keywords, node, freed)
    output: Any = node.outputs[0]
    if len(freed) < 2 and not any(map(_is_made_anew, node.arguments)):
        places = [program.place(one) for one in node.arguments]
        # Where nothing is freed, what is written over is a constant that nobody reads.
        short = _short_step(function, places, output, *(freed or [program.place(None)]))
        if short is not None:
            return short

    def step(values: Values) -> None:
        values[output] = function(*arguments(values))
        for slot in freed:
            values[slot] = None

    return step


def _short_step(
    function: Callable[..., Any], places: Sequence[int], output: int, freed: int
) -> Step | None:
    """One of few arguments, as most are: a sixth of what a small operator takes is saved."""
    if len(places) == 1:
        (one,) = places

        def step(values: Values) -> None:
            values[output] = function(values[one])
            values[freed] = None

    elif len(places) == 2:
        first, second = places

        def step(values: Values) -> None:
            values[output] = function(values[first], values[second])
            values[freed] = None

    elif len(places) == 3:
        first, second, third = places

        def step(values: Values) -> None:
            values[output] = function(values[first], values[second], values[third])
            values[freed] = None

    else:
        return None
    return step


def _any_step(
    function: Callable[..., Any],
    arguments: Callable[[Values], tuple[Any, ...]],
    keywords: Mapping[str, Callable[[Values], Any]],
    node: Node,
    freed: Sequence[int],
) -> Step:
    """One whose operator takes keywords, or returns several values."""

    def step(values: Values) -> None:
        named = {name: getter(values) for name, getter in keywords.items()}
        made = function(*arguments(values), **named)
        for output, value in zip(node.outputs, made if node.unpacks else (made,), strict=True):
            if output is not None:
                values[output] = value
        for slot in freed:
            values[slot] = None

    return step


def _is_made_anew(argument: Argument) -> bool:
    """Whether it is a list with values of the run in it."""
    return isinstance(argument, Many) and bool(slots_in(argument))


def _function(node: Node, device: torch.device) -> Callable[..., Any]:
    """As little as there can be between us and the operator."""
    function = looked_at(node.operator, function_of(node.operator), device)
    if node.unpacks:
        return counted(node.operator, function, len(node.outputs))
    if node.operator.split(".")[1] in UNFILLED:
        # What lies in memory that nobody has filled is somebody else's.
        return lambda *arguments, **keywords: function(*arguments, **keywords).zero_()
    return function


def keywords_of(node: Node) -> Mapping[str, Argument]:
    """Its keywords; what makes a tensor out of numbers makes it here unless it says so itself."""
    known = schema(node.operator)
    names = [argument.name for argument in known.arguments] if known is not None else []
    takes_tensor = known is not None and any("Tensor" in str(a.type) for a in known.arguments)
    if "device" not in names or takes_tensor or node.keywords.get("device") is not None:
        return node.keywords
    return {**node.keywords, "device": Named("device", "here")}


def last_uses(graph: Graph) -> list[list[int]]:
    """For each node the slots that nothing behind it reads. Weights and outputs are kept."""
    kept = {slot for output in graph.outputs for slot in slots_in(output)}
    kept |= {weight.slot for weight in graph.weights}
    freed: list[list[int]] = [[] for _ in graph.nodes]
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        made = [slot for slot in node.outputs if slot is not None]
        for slot in (*made, *slots_read(node)):
            if slot not in kept:
                kept.add(slot)
                freed[index].append(slot)
    return freed


def first_line(error: Exception) -> str:
    """What ``error`` says, on one line of bounded length."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
