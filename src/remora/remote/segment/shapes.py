"""What an operator makes of what it is given: worked out on tensors that have no memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from remora.core.errors import Refused
from remora.remote.graph.nodes import Named
from remora.remote.graph.operators import NAMED, UNFILLED, object_of
from remora.remote.segment.operators import Operator
from remora.remote.segment.plan import Made, Part, Scalar, Seen, Several, Signature

META = torch.device("meta")
NAME_OF_DTYPE = {dtype: name for name, dtype in NAMED["dtype"].items()}


class ShapesUnknown(Refused):
    """An operator whose outputs depend on what is in its inputs, or on nobody knows what."""


@torch.no_grad()
def made_by(operator: Operator, signature: Signature) -> tuple[Made | None, ...]:
    """The tensors that ``signature`` makes; its ``made`` is not read.

    Raises:
        ShapesUnknown: torch cannot tell without running it.
        Exception: what torch raises where the arguments do not go together.
    """
    arguments = [_on_meta(part) for part in signature.arguments]
    keywords = {name: _on_meta(part) for name, part in signature.keywords}
    if makes_out_of_nothing(operator):
        keywords["device"] = META
    before = {name: keywords[name].shape for name in operator.written if name in keywords}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            returned = operator.function(*arguments, **keywords)
    except NotImplementedError as error:
        raise ShapesUnknown(f"what {operator.name} gives cannot be told ahead") from error
    if any(keywords[name].shape != shape for name, shape in before.items()):
        raise Refused(f"{operator.name} would resize its out=; give it one of the right shape")
    return _described(operator, returned)


def makes_out_of_nothing(operator: Operator) -> bool:
    """Whether it takes a device and no tensor that could have one."""
    arguments = operator.schema.arguments
    takes_tensor = any("Tensor" in str(argument.type) for argument in arguments)
    return not takes_tensor and any(argument.name == "device" for argument in arguments)


def leaves_unfilled(operator: Operator) -> bool:
    """Whether it gives memory as it is found."""
    return operator.name.split(".")[1] in UNFILLED | {"empty_strided"}


def made_values(operator: Operator, returned: Any) -> list[torch.Tensor | None]:
    """The tensors among what ``operator`` returned that it has made."""
    if len(operator.returned) == 1:
        if operator.returned[0] is not None:
            return []
        return list(returned) if isinstance(returned, list | tuple) else [returned]
    pairs = zip(returned, operator.returned, strict=True)
    return [value for value, argument in pairs if argument is None]


def dense_bytes(made: Made) -> int:
    """What its memory takes."""
    elements = 1
    for size in made.sizes:
        elements *= size
    itemsize: int = NAMED["dtype"][made.dtype].itemsize
    return elements * itemsize


def row_by_row(sizes: Sequence[int]) -> tuple[int, ...]:
    """Strides of a tensor whose last dimension lies closest together."""
    strides, step = [], 1
    for size in reversed(sizes):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _described(operator: Operator, returned: Any) -> tuple[Made | None, ...]:
    values = made_values(operator, returned)
    return tuple(None if value is None else _made(operator, value) for value in values)


def _made(operator: Operator, value: torch.Tensor) -> Made:
    dtype = NAME_OF_DTYPE.get(value.dtype)
    if dtype is None:
        raise Refused(f"{operator.name} gives {value.dtype}, which a server does not keep")
    sizes, strides = tuple(value.shape), tuple(value.stride())
    if 0 in sizes or not is_dense(sizes, strides):
        strides = row_by_row(sizes)
    return Made(dtype, sizes, strides)


def is_dense(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether its elements fill its memory without gaps, in whatever order."""
    reach = 1
    for stride, size in sorted(zip(strides, sizes, strict=True)):
        if size > 1:
            if stride != reach:
                return False
            reach *= size
    return True


def _on_meta(part: Part) -> Any:
    if isinstance(part, Seen):
        dtype = NAMED["dtype"][part.dtype]
        return torch.empty_strided(part.sizes, part.strides, dtype=dtype, device=META)
    if isinstance(part, Scalar):
        return 1.0  # no shape depends on it
    if isinstance(part, Several):
        return [_on_meta(item) for item in part.items]
    if isinstance(part, Named):
        return object_of(part.kind, part.name, META)
    return part
