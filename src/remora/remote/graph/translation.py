"""From what ``torch.export`` found to a graph."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import Node as FxNode

from remora.core.errors import CannotCapture
from remora.remote.graph.in_place import without_writing
from remora.remote.graph.nodes import (
    Argument,
    Graph,
    Many,
    Named,
    Node,
    Slot,
    Value,
    Weight,
    slots_in,
    slots_read,
)
from remora.remote.graph.operators import NUMBERS, NotAllowed, name_of, resolve

Digest = Callable[[torch.Tensor], str]

_CHECKS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten._assert_async.msg",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)
"""Checks of what held while tracing. Nothing that is computed depends on them."""
_SAME = frozenset(
    {
        "aten.alias.default",
        "aten.clone.default",
        "aten.contiguous.default",
        "aten.detach.default",
        "aten.detach_.default",
        "aten.lift_fresh.default",
        "aten.lift_fresh_copy.default",
        "aten.to.device",
        "aten.to.dtype",
        "aten.to.dtype_layout",
        "aten._to_copy.default",
    }
)
"""What gives what it is given, where dtype and strides are the same: nothing is changed in a graph,
so the original is as good as a copy."""
_DROPOUT = frozenset(
    f"aten.{name}.default"
    for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
)
_RESHAPED = frozenset({"aten.view.default", "aten._unsafe_view.default"})
"""A kernel may lay out its output otherwise than the trace supposed: then a view needs a copy."""
_NUMBERS = {
    **{getattr(operator, name): name for name in NUMBERS if hasattr(operator, name)},
    operator.truediv: "truediv",
    torch.sym_max: "max",
    torch.sym_min: "min",
    torch.sym_not: "not_",
    torch.sym_int: "int",
    torch.sym_float: "float",
}
_TO_THE_END = 2**63 - 1
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_TORCH = re.compile(r"(^|/)torch/")
_WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class Translation:
    """One exported program, node by node, into a graph.

    Raises:
        CannotCapture: it holds an operator that a graph may not hold, or changes its buffers.
    """

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self._exported = exported
        self._slots: dict[FxNode, Argument] = {}
        self._count = 0
        self._weights: list[tuple[int, str, torch.Tensor]] = []
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._lines: list[str] = []
        _refuse_changes(exported)
        self._read_inputs()
        for node in exported.graph.nodes:
            if node.op not in ("placeholder", "output"):
                self._read(node)
        self._outputs = self._read_outputs()
        self._drop_what_nobody_reads()

    @property
    def lines(self) -> tuple[str, ...]:
        """For each node the line of the model's code that it comes from."""
        return tuple(self._lines)

    def graph(self, digest: Digest) -> Graph:
        """The graph, with each weight called by its ``digest``."""
        read = {slot for node in self._nodes for slot in slots_read(node)}
        read |= {slot for output in self._outputs for slot in slots_in(output)}
        weights = [
            Weight(slot, name, digest(tensor), _dtype(tensor), tuple(tensor.shape))
            for slot, name, tensor in self._weights
            if slot in read
        ]
        return Graph(
            self._count, tuple(weights), tuple(self._inputs), tuple(self._nodes), self._outputs
        )

    def _new_slot(self) -> int:
        self._count += 1
        return self._count - 1

    # ------------------------------------------------- what goes in and comes out

    def _read_inputs(self) -> None:
        tensors = {**self._exported.state_dict, **self._exported.constants}
        placeholders = {
            node.name: node for node in self._exported.graph.nodes if node.op == "placeholder"
        }
        for spec in self._exported.graph_signature.input_specs:
            node = placeholders[spec.arg.name]
            if isinstance(spec.arg, ConstantArgument):
                self._slots[node] = spec.arg.value
            elif spec.kind in _WEIGHTS and spec.target is not None:
                slot = self._slot_of(node)
                self._weights.append((slot, _shown(spec.target), tensors[spec.target]))
            elif spec.kind is InputKind.USER_INPUT and isinstance(node.meta["val"], torch.Tensor):
                value = node.meta["val"]
                self._inputs.append(Value(self._slot_of(node), _dtype(value), _dims(value)))
            else:
                raise CannotCapture(
                    f"input {spec.arg.name!r} is a {spec.kind.name.lower()}, not a tensor; "
                    "pass numbers and objects as constants, or capture another part of the model"
                )

    def _slot_of(self, node: FxNode) -> int:
        slot = self._new_slot()
        self._slots[node] = Slot(slot)
        return slot

    def _read_outputs(self) -> tuple[Argument, ...]:
        (output,) = [node for node in self._exported.graph.nodes if node.op == "output"]
        return tuple(self._argument(argument, output) for argument in output.args[0])

    # ------------------------------------------------- what is computed

    def _read(self, node: FxNode) -> None:
        name = _operator(node)
        if name in _CHECKS or node in self._slots:
            return
        if _gives_its_argument(name, node):
            self._slots[node] = self._argument(node.args[0], node)
            return
        self._add(name, node)

    def _add(self, name: str, node: FxNode) -> None:
        if node.target is operator.getitem:
            raise CannotCapture(f"an item of {node.args[0]} is taken by a number that is computed")
        outputs, unpacks = self._outputs_of(node)
        arguments = tuple(self._argument(argument, node) for argument in node.args)
        keywords = {
            key: self._argument(value, node)
            for key, value in node.kwargs.items()
            if value is not None and key != "pin_memory"
        }
        self._nodes.append(Node(name, arguments, keywords, outputs, unpacks))
        self._lines.append(_line(node))

    def _outputs_of(self, node: FxNode) -> tuple[tuple[int | None, ...], bool]:
        """The slots that ``node`` fills; those that take an item of it stand for the items."""
        if not isinstance(node.meta.get("val"), tuple | list):
            return (self._slot_of(node),), False
        slots: list[int | None] = [None] * len(node.meta["val"])
        for user in node.users:
            if user.target is not operator.getitem or not isinstance(user.args[1], int):
                raise CannotCapture(_at(user, "several values are passed on as one"))
            taken = slots[user.args[1]]
            slot = self._new_slot() if taken is None else taken
            slots[user.args[1]] = slot
            self._slots[user] = Slot(slot)
        return tuple(slots), True

    def _argument(self, value: Any, node: FxNode) -> Argument:
        if isinstance(value, FxNode):
            return self._slots[value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return Many(tuple(self._argument(item, node) for item in value))
        named = name_of(value)
        if named is None:
            raise CannotCapture(_at(node, f"an argument is a {type(value).__name__}"))
        return Named(*named)

    def _drop_what_nobody_reads(self) -> None:
        read = {slot for output in self._outputs for slot in slots_in(output)}
        kept: list[tuple[Node, str]] = []
        for node, line in zip(reversed(self._nodes), reversed(self._lines), strict=True):
            if any(slot in read for slot in node.outputs):
                read.update(slots_read(node))
                kept.append((_with_outputs_in(node, read), line))
        self._nodes = [node for node, _ in reversed(kept)]
        self._lines = [line for _, line in reversed(kept)]


def _with_outputs_in(node: Node, read: set[int]) -> Node:
    outputs = tuple(slot if slot in read else None for slot in node.outputs)
    return node if outputs == node.outputs else msgspec.structs.replace(node, outputs=outputs)


def _operator(node: FxNode) -> str:
    """What a graph calls the operator of ``node``."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        name = str(target)
        if name not in _SAME:
            name = without_writing(node) or name
    else:
        name = f"number.{_NUMBERS[target]}" if target in _NUMBERS else str(target)
    if name in _CHECKS or target is operator.getitem or _gives_its_argument(name, node):
        return name
    try:
        resolve(name)
    except NotAllowed as error:
        raise CannotCapture(_at(node, f"operator {name} cannot be sent")) from error
    return "aten.reshape.default" if name in _RESHAPED else name


def _gives_its_argument(name: str, node: FxNode) -> bool:
    if name in _DROPOUT:
        return len(node.args) > 2 and node.args[2] is False
    if name == "aten.slice.Tensor":
        return node.args[2:] == (0, _TO_THE_END)
    # A copy of what is expanded or cut out lies differently, and may be viewed as it may not.
    return name in _SAME and _laid_out(node) == _laid_out(node.args[0])


def _laid_out(node: Any) -> tuple[object, ...]:
    value = node.meta["val"] if isinstance(node, FxNode) else None
    if not isinstance(value, torch.Tensor):
        return (node,)
    return value.dtype, str(tuple(value.shape)), str(value.stride())


def _refuse_changes(exported: torch.export.ExportedProgram) -> None:
    changed = [
        _shown(spec.target or "an input")
        for spec in exported.graph_signature.output_specs
        if spec.kind is not OutputKind.USER_OUTPUT
    ]
    if changed:
        raise CannotCapture(
            f"the model changes {', '.join(changed[:3])} when it is called; "
            "call eval() on it first, or return what changes as an output"
        )


def _at(node: FxNode, what: str) -> str:
    line = _line(node)
    return f"{what}, at {line}" if line else what


def _line(node: FxNode) -> str:
    """The innermost line outside torch's own code that ``node`` comes from."""
    frames: Iterable[tuple[str, str, str]] = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(file, line, name) for file, line, name in frames if not _TORCH.search(file)]
    return f"{own[-1][0]}:{own[-1][1]} in {own[-1][2]}" if own else ""


def _shown(target: str) -> str:
    """The name the user knows it by."""
    return target.removeprefix("module.")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _dims(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its sizes, -1 where any will do. One that is fixed may be a symbol for a number."""
    return tuple(-1 if (fixed := _fixed(size)) is None else fixed for size in tensor.shape)


def _fixed(size: int | torch.SymInt) -> int | None:
    return size if isinstance(size, int) else size.node.maybe_as_int()
