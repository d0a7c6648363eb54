"""From a call of an operator to its place in the stream: the way that every operator takes.

It is walked for each, so it is short: what the call looks like is made into a key, and what is
known for the key is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from remora.core.errors import BadValue
from remora.remote.eager.entries import NOT_SENT
from remora.remote.eager.memory import Memory, memory_of
from remora.remote.eager.overlap import check_between, check_itself
from remora.remote.eager.recorder import Recorder
from remora.remote.graph.nodes import Named
from remora.remote.segment.operators import Operator
from remora.remote.segment.plan import PUT, Made, Several, Signature
from remora.remote.segment.shapes import NAME_OF_DTYPE, row_by_row

_CPU_INDICES = frozenset(
    f"aten.{name}.default" for name in ("index_put", "index_put_")
) | {"aten.index.Tensor"}  # fmt: skip
"""Operators that take tensors of the CPU as indices, as they do on other devices."""
_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})
_PLAIN = frozenset({int, str, type(None), torch.dtype, torch.memory_format, torch.layout})


class Current:
    """The device that is in use: what makes tensors out of nothing makes them there."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None

    def get(self) -> Recorder:
        """Its recorder.

        Raises:
            BadValue: there is none.
        """
        if self.recorder is None:
            raise BadValue("no device is in use; make one with remora.connect(ADDRESS).device()")
        return self.recorder


CURRENT = Current()


Lain = list[Memory | torch.Tensor]
"""Memories that tensors lie in; of tensors of the CPU themselves."""


def take(
    values: Iterable[Any], key: list[Any], lain: Lain, scalars: list[float] | None = None
) -> bool:
    """Add to ``key`` what tells ``values`` apart from others, their memories to ``lain``, and their
    floating-point numbers to ``scalars`` where they are not to tell them apart.

    Returns whether a tensor of the CPU is among them.
    """
    strangers = False
    for value in values:
        kind = type(value)
        if kind in _TENSORS or isinstance(value, torch.Tensor):
            memory = getattr(value.untyped_storage(), "remora", None)
            if memory is not None:
                lain.append(memory)
                key += (value.dtype, value.shape, value.stride(), value.storage_offset())
            else:
                strangers = True
                lain.append(value)
                key += (value.dtype, value.shape)
        elif kind in _PLAIN:
            key.append(value)
        elif kind is list or kind is tuple:
            key.append(len(value))
            strangers = take(value, key, lain, scalars) or strangers
        elif kind is float and scalars is not None:
            key.append(float)
            scalars.append(value)
        else:  # 1, 1.0 and True are equal and not the same; a number that is none equals nothing
            key += (kind, repr(value))
    return strangers


def recorder_of(tensors: Lain) -> Recorder:
    """Whose memories these are.

    Raises:
        BadValue: those of several devices.
    """
    found: Recorder | None = None
    for each in tensors:
        if isinstance(each, Memory):
            if found is None:
                found = each.recorder
            elif each.recorder is not found:
                each.recorder.check()
                found.check()
                raise BadValue("tensors of two devices; bring one of them over with .cpu() first")
    return found if found is not None else CURRENT.get()


def record(operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Record a call of ``operator``; returns what it would."""
    key: list[Any] = [operator, torch.get_default_dtype()]
    lain: Lain = []
    scalars: list[float] | None = [] if operator.takes_scalars else None
    strangers = take(args, key, lain, scalars)
    for name, value in kwargs.items():
        if name not in NOT_SENT:
            key.append(name)
            strangers = take((value,), key, lain, scalars) or strangers
    if len(lain) > 1 and operator.written and len(set(map(id, lain))) < len(lain):
        check_between(operator, args, kwargs)
    recorder = recorder_of(lain)
    with recorder.lock:
        if strangers:
            _check_written(operator, args, kwargs)
            lain = [_brought(recorder, each, operator) for each in lain]
        entry = recorder.entries.get(tuple(key))
        if entry is None:
            recorder.check()
            check_itself(operator, args, kwargs)
            entry = recorder.entries.of(tuple(key), operator, args, kwargs)
        made = recorder.add(entry, lain, scalars or ())  # type: ignore[arg-type]
        recorder.done()
    if operator.makes_one:
        return made[0]
    return _returned(operator, made, args, kwargs)


def _returned(
    operator: Operator,
    made: list[torch.Tensor | None],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    returned = operator.returned
    if operator.gives_list:
        return made
    remaining = iter(made)
    values = [
        next(remaining) if name is None else _argument(operator, name, args, kwargs)
        for name in returned
    ]
    return values[0] if len(values) == 1 else tuple(values)


def _argument(
    operator: Operator, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> torch.Tensor:
    tensor: torch.Tensor = kwargs[name] if name in kwargs else args[operator.places[name]]
    return tensor


def _check_written(operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    for name in operator.written:
        place = operator.places[name]
        value = kwargs.get(name, args[place] if place < len(args) else None)
        if isinstance(value, torch.Tensor) and memory_of(value) is None:
            raise BadValue(
                f"{operator.name} would write what is on the device to a tensor on {value.device}; "
                "bring it over with .cpu() first"
            )


def _brought(recorder: Recorder, each: Memory | torch.Tensor, operator: Operator) -> Memory:
    """What torch takes from the CPU beside tensors of a device: single numbers, and indices."""
    if isinstance(each, Memory):
        return each
    if each.dim() and operator.name not in _CPU_INDICES:
        raise BadValue(
            f"{operator.name} is given a tensor on {each.device} beside those of the device; "
            "put it there with .to(device) first"
        )
    memory = memory_of(put(recorder, each))
    if memory is None:
        raise BadValue("a tensor that was put on the device has no memory there")
    return memory


def put(recorder: Recorder, tensor: torch.Tensor) -> torch.Tensor:
    """A copy of ``tensor``, which is on the CPU, on the device."""
    with recorder.lock:
        copied = tensor.detach().clone(memory_format=torch.contiguous_format)
        entry = recorder.entries.special(PUT, made=(made_of(copied),))
        (made,) = recorder.add(entry, [])
        recorder.put(copied, entry)
        recorder.done()
        if made is None:
            raise BadValue("a tensor that was put on the device has no memory there")
        return made


def made_of(tensor: torch.Tensor) -> Made:
    """``tensor`` as one that is made, row by row.

    Raises:
        BadValue: a dtype that a server does not keep.
    """
    name = NAME_OF_DTYPE.get(tensor.dtype)
    if name is None or tensor.layout is not torch.strided:
        valid = ", ".join(NAME_OF_DTYPE.values())
        raise BadValue(
            f"a {tensor.layout} tensor of {tensor.dtype} cannot be put on a server; "
            f"strided ones can be, of: {valid}"
        )
    return Made(name, tuple(tensor.shape), row_by_row(tensor.shape))


def kernel_of(operator: Operator) -> Callable[..., Any]:
    """What torch is to call for ``operator`` on the device."""
    return lambda *args, **kwargs: record(operator, args, kwargs)


def empty(sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype | None) -> torch.Tensor:
    """Memory that nobody has filled: asked for when somebody first reads it."""
    recorder = CURRENT.get()
    name = NAME_OF_DTYPE.get(dtype or torch.get_default_dtype())
    if name is None:
        raise BadValue(f"a server does not keep {dtype}; choose another dtype")
    made = Made(name, tuple(sizes), tuple(strides))
    arguments = (Several(made.sizes), Several(made.strides))
    with recorder.lock:
        recorder.check()
        key = (EMPTY, made)
        entry = recorder.entries.get(key) or recorder.entries.add(
            key, Signature(EMPTY, arguments, (("dtype", Named("dtype", name)),), (made,))
        )
        return recorder.unmade(entry)


EMPTY = "aten.empty_strided.default"
