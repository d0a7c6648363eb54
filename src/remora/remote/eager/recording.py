"""From a call of an operator to its place in the stream: the way that every operator takes.

It is walked for each, so it is short: what the call looks like is made into a key, and what is
known for the key is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from remora.core.errors import BadValue
from remora.remote.eager.entries import NOT_SENT
from remora.remote.eager.memory import Memory, memory_of
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


class Call:
    """What a call is given, taken apart."""

    __slots__ = ("key", "strangers", "tensors")

    def __init__(self, key: list[Any]) -> None:
        self.key = key
        self.tensors: list[Memory | torch.Tensor] = []
        """The memories that its tensors lie in; tensors of the CPU themselves."""
        self.strangers = False

    def take(self, value: Any) -> None:
        """One argument."""
        kind = type(value)
        key = self.key
        if kind in _TENSORS or isinstance(value, torch.Tensor):
            memory = getattr(value.untyped_storage(), "remora", None)
            if memory is None:
                self.strangers = True
                self.tensors.append(value)
                key.append((value.dtype, value.shape))
            else:
                self.tensors.append(memory)
                key += (value.dtype, value.shape, value.stride(), value.storage_offset())
        elif kind in _PLAIN:
            key.append(value)
        elif kind is list or kind is tuple:
            key.append(len(value))
            if value and type(value[0]) is int:
                key.append(tuple(value))
                return
            for item in value:
                self.take(item)
        else:  # 1, 1.0 and True are equal and not the same; a number that is none equals nothing
            key.append((kind, repr(value)))


def recorder_of(tensors: Sequence[Memory | torch.Tensor]) -> Recorder:
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
    call = Call([operator, torch.get_default_dtype()])
    for value in args:
        call.take(value)
    for name, value in kwargs.items():
        if name not in NOT_SENT:
            call.key.append(name)
            call.take(value)
    recorder = recorder_of(call.tensors)
    with recorder.lock:
        memories = call.tensors
        if call.strangers:
            memories = [_brought(recorder, each, operator) for each in memories]
        entries, key = recorder.entries, tuple(call.key)
        entry = entries.get(key)
        if entry is None:
            recorder.check()
            entry = entries.of(key, operator, args, kwargs)
        made = recorder.add(entry, memories)  # type: ignore[arg-type]
        recorder.done()
    return _returned(operator, made, args, kwargs)


def _returned(
    operator: Operator, made: list[torch.Tensor | None], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    returned = operator.returned
    if len(returned) == 1:
        if returned[0] is not None:
            return _argument(operator, returned[0], args, kwargs)
        return made if operator.gives_list else made[0]
    remaining = iter(made)
    return tuple(
        next(remaining) if name is None else _argument(operator, name, args, kwargs)
        for name in returned
    )


def _argument(
    operator: Operator, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> torch.Tensor:
    if name in kwargs:
        tensor: torch.Tensor = kwargs[name]
        return tensor
    place = [argument.name for argument in operator.schema.arguments].index(name)
    tensor = args[place]
    return tensor


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
