"""Operators of the device that are more than recorded: what crosses, what is drawn, what depends
on data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from remora.remote.eager.entries import seen
from remora.remote.eager.memory import Memory, memory_of
from remora.remote.eager.recorder import Recorder
from remora.remote.eager.recording import CURRENT, empty, made_of, put, record
from remora.remote.segment.operators import operator_named
from remora.remote.segment.plan import PUT
from remora.remote.segment.shapes import row_by_row

aten = torch.ops.aten
_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)


# ------------------------------------------------- memory, and views of it


def empty_kernel(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    **where: Any,
) -> torch.Tensor:
    """``aten::empty.memory_format``."""
    if memory_format in (None, torch.contiguous_format):
        return empty(size, row_by_row(size), dtype)
    laid = torch.empty(size, memory_format=memory_format, device="meta")
    return empty(size, laid.stride(), dtype)


def empty_strided_kernel(
    size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **where: Any
) -> torch.Tensor:
    """``aten::empty_strided``. Gaps between its elements are not asked for."""
    if _has_gaps(size, stride):
        return torch.as_strided(empty([_reach(size, stride)], [1], dtype), size, stride)
    return empty(size, stride, dtype)


def _reach(sizes: Sequence[int], strides: Sequence[int]) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))


def _has_gaps(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    if 0 in sizes:
        return False
    elements = 1
    for size in sizes:
        elements *= size
    return _reach(sizes, strides) != elements


def view_kernel(name: str, overload: str) -> Callable[..., Any]:
    """An operator that looks at the same memory: nothing is recorded."""
    operator = getattr(getattr(aten, name), overload)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        return operator.redispatch(_META, *args, **kwargs)

    return kernel


# ------------------------------------------------- what crosses


def copy_kernel(self: torch.Tensor, src: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """``aten::copy_``: onto the device, from it, or on it."""
    memory, other = memory_of(self), memory_of(src)
    if memory is None:
        return self.copy_(fetched(src).to(self.dtype))
    if other is memory and _looks_the_same(self, src):
        return self
    if other is not None:
        record(_COPY, (self, src), {})
    elif not _fills(self, memory, src):
        record(_COPY, (self, put(memory.recorder, src.to(self.dtype))), {})
    return self


def _looks_the_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.dtype, one.shape, one.stride(), one.storage_offset()) == (
        other.dtype, other.shape, other.stride(), other.storage_offset()
    )  # fmt: skip


def to_copy_kernel(
    self: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    memory_format: torch.memory_format | None = None,
    **how: Any,
) -> torch.Tensor:
    """``aten::_to_copy``: what ``.to()`` does where there is anything to do."""
    memory, dtype = memory_of(self), dtype or self.dtype
    goes_there = device is None or device.type != "cpu"
    if memory is None:
        laid = _laid_out(self, memory_format)
        return copy_kernel(empty_strided_kernel(self.shape, laid.stride(), dtype=dtype), self)
    if not goes_there:
        return fetched(self).to(dtype, memory_format=memory_format or torch.preserve_format)
    return cast(torch.Tensor, record(_TO_COPY, (self,), _said(dtype, memory_format)))


def _laid_out(self: torch.Tensor, memory_format: torch.memory_format | None) -> torch.Tensor:
    return torch.empty_like(
        self, device="meta", memory_format=memory_format or torch.preserve_format
    )


def _said(dtype: torch.dtype, memory_format: torch.memory_format | None) -> dict[str, Any]:
    said: dict[str, Any] = {"dtype": dtype}
    return said if memory_format is None else {**said, "memory_format": memory_format}


def _fills(self: torch.Tensor, memory: Memory, src: torch.Tensor) -> bool:
    """Put ``src`` as the whole of a memory that nobody has written to, where it is that."""
    whole = memory.unmade is not None and self.shape == src.shape and self.is_contiguous()
    if not whole or self.numel() * self.element_size() != memory.bytes:
        return False
    recorder = memory.recorder
    with recorder.lock:
        recorder.check()
        copied = _copied(src, self.dtype)
        entry = recorder.entries.special(PUT, made=(made_of(copied),))
        recorder.fill(memory, entry)
        recorder.put(copied, entry)
        recorder.done()
    return True


def _copied(src: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``src`` as it is now, row by row, for nobody else to change."""
    made = torch.empty(src.shape, dtype=dtype)
    return made.copy_(src.detach())


def fetched(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor``, here."""
    memory = memory_of(tensor)
    if memory is None:
        return tensor
    return memory.recorder.fetch(seen(tensor), memory)


def scalar_kernel(self: torch.Tensor) -> Any:
    """``aten::_local_scalar_dense``: what ``.item()`` gives."""
    return fetched(self).item()


def equal_kernel(self: torch.Tensor, other: torch.Tensor) -> bool:
    """``aten::equal``."""
    if self.shape != other.shape:
        return False
    return bool((self == other).all())


# ------------------------------------------------- what depends on data


def nonzero_kernel(self: torch.Tensor) -> torch.Tensor:
    """``aten::nonzero``: how many there are is asked for, the rest stays there."""
    count = int((self != 0).sum())
    found: torch.Tensor = aten.nonzero_static(self, size=count)
    return found


def masked_select_kernel(self: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``aten::masked_select``."""
    values, chosen = torch.broadcast_tensors(self, mask)
    places = nonzero_kernel(chosen.reshape(-1))[:, 0]
    selected: torch.Tensor = values.reshape(-1).index_select(0, places)
    return selected


def index_kernel(self: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> Any:
    """``aten::index.Tensor``; masks become the places where they are true."""
    return record(_INDEX, (self, _without_masks(self, indices)), {})


def index_put_kernel(
    self: torch.Tensor,
    indices: Sequence[torch.Tensor | None],
    values: torch.Tensor,
    accumulate: bool = False,
    unsafe: bool = False,
) -> Any:
    """``aten::index_put_``, and ``_index_put_impl_``, by which gradients of a selection are added.

    Indices that are ``unsafe``, which is to say known to be good, are looked at as any others.
    """
    return record(_INDEX_PUT, (self, _without_masks(self, indices), values, accumulate), {})


def _without_masks(
    self: torch.Tensor, indices: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    plain: list[torch.Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            plain.append(index)
            continue
        here = len(plain)
        if index.shape != self.shape[here : here + index.dim()]:
            raise IndexError(
                f"a mask of shape {list(index.shape)} at dimension {here} of {list(self.shape)}"
            )
        places = nonzero_kernel(index) if memory_of(index) is not None else index.nonzero()
        plain += places.unbind(1)
    return plain


def repeat_interleave_kernel(
    repeats: torch.Tensor, *, output_size: int | None = None
) -> torch.Tensor:
    """``aten::repeat_interleave.Tensor``."""
    size = int(repeats.sum()) if output_size is None else output_size
    ends = repeats.cumsum(0)
    return torch.searchsorted(ends, torch.arange(size, device=repeats.device), right=True).to(
        repeats.dtype
    )


# ------------------------------------------------- what is drawn


def drawing_in_place(name: str, overload: str) -> Callable[..., Any]:
    """An operator that fills a tensor with random numbers: they are drawn here, by the generator
    of the CPU, and put there. So they are those that the CPU would have drawn.
    """
    operator = getattr(getattr(aten, name), overload)

    def kernel(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        drawn = torch.empty_strided(self.shape, self.stride(), dtype=self.dtype)
        operator(drawn, *[_here(value) for value in args], **kwargs)
        return copy_kernel(self, drawn)

    return kernel


def drawing(name: str, overload: str) -> Callable[..., Any]:
    """An operator that makes a tensor of random numbers: likewise."""
    operator = getattr(getattr(aten, name), overload)

    def kernel(*args: Any, **kwargs: Any) -> torch.Tensor:
        recorder = _recorder_among(args)
        plain = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        return put(recorder, operator(*[_here(value) for value in args], **plain))

    return kernel


def dropout_kernel(
    self: torch.Tensor, p: float, train: bool | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``aten::native_dropout``: which elements stay is drawn here, as the CPU would."""
    if not train or not self.numel():
        return self.clone(), torch.ones_like(self, dtype=torch.bool)
    drawn = torch.empty_strided(self.shape, self.stride(), dtype=self.dtype)
    drawn.bernoulli_(1 - p)
    stays = drawn.bool().to(self.device)
    scales = stays.to(self.dtype)
    if p < 1:
        scales = scales.div_(1 - p)
    return self * scales, stays


def _here(value: Any) -> Any:
    return fetched(value) if isinstance(value, torch.Tensor) else value


def _recorder_among(args: Sequence[Any]) -> Recorder:
    for value in args:
        memory = memory_of(value) if isinstance(value, torch.Tensor) else None
        if memory is not None:
            return memory.recorder
    return CURRENT.get()


_TO_COPY = operator_named("aten._to_copy.default")
_COPY = operator_named("aten.copy_.default")
_INDEX = operator_named("aten.index.Tensor")
_INDEX_PUT = operator_named("aten.index_put_.default")
