"""What a workload needs in memory, found by rehearsing it on tensors without data.

The session is built and stepped on PyTorch's meta device, where tensors have shapes and no memory,
while every storage that lives is counted. Nothing is estimated by formula, so the arithmetic cannot
drift from the model.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from remora.workloads.contract import Footprint, Scale, Workload

_ATEN = torch.ops.aten
_META = torch.device("meta")

_YES = True
"""The answer to a model that reads a value in its forward pass. What the models here read is
whether all tokens are real (none padded, sequences not packed), and so they are."""

_IN_PLACE = frozenset(
    (
        *(_ATEN.add_.Tensor, _ATEN.add_.Scalar, _ATEN.mul_.Tensor, _ATEN.mul_.Scalar),
        *(_ATEN.lerp_.Scalar, _ATEN.addcmul_.default, _ATEN.addcdiv_.default),
    )
)
"""What optimizers mostly do: it allocates nothing."""


@cache
def rehearse(workload: Workload, scale: Scale) -> Footprint:
    """The footprint of ``workload`` at ``scale``, from one step, or two when training.

    Optimizers make their state in the first, so that the second needs the most.
    ``activations`` is what the step's peak needs beyond weights, gradients and optimizer state.
    """
    meter = _LiveBytes()
    with meter:
        session = workload.build(scale, _META)
        meter.peak = meter.live
        session.step()
        if session.optimizers:
            session.step()
    parameters = list(session.model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    weights = _bytes([*parameters, *session.model.buffers()])
    gradients = _bytes(trained) if session.optimizers else 0
    states = [optimizer.state_dict() for optimizer in session.optimizers.values()]
    optimizer = _bytes(tree_iter(states))
    return Footprint(
        parameters=sum(parameter.numel() for parameter in parameters),
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(0, meter.peak - weights - gradients - optimizer),
    )


def _bytes(leaves: Iterable[object]) -> int:
    """Bytes of the storages behind the tensors among ``leaves``, shared ones once."""
    storages = {
        leaf.untyped_storage()._cdata: leaf.untyped_storage().nbytes()
        for leaf in leaves
        if isinstance(leaf, torch.Tensor)
    }
    return sum(storages.values())


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages alive, and their peak.

    Working out a result's shape takes PyTorch longer than many a real kernel, and layers repeat:
    so each operator is asked once for each combination of argument shapes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()
        self._results: dict[Hashable, _Shape | tuple[_Shape, ...]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is _ATEN._local_scalar_dense.default and args[0].is_meta:
            return _YES
        if func in _IN_PLACE and args[0].is_meta:
            return args[0]
        result = self._run(func, args, kwargs or {})
        for leaf in tree_iter(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = (func, _key(args), _key(tuple(kwargs.items()))) if _makes_anew(func) else None
        if key in self._results:
            return _make(self._results[key])
        result = func(*args, **kwargs)
        if key is not None and _all_meta(result):
            self._results[key] = _shape(result)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


_Shape = tuple[torch.Size, tuple[int, ...], torch.dtype]


@cache
def _makes_anew(func: Any) -> bool:
    """Whether ``func`` returns tensors of its own, no views, and changes none of its arguments."""
    schema = func._schema
    return not any(value.alias_info for value in (*schema.arguments, *schema.returns))


def _key(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype, value.device)
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return (type(value), value)


def _all_meta(result: Any) -> bool:
    results = result if isinstance(result, tuple) else (result,)
    return all(isinstance(each, torch.Tensor) and each.is_meta for each in results)


def _shape(result: Any) -> _Shape | tuple[_Shape, ...]:
    if isinstance(result, tuple):
        return tuple((each.shape, each.stride(), each.dtype) for each in result)
    return (result.shape, result.stride(), result.dtype)


def _make(shape: Any) -> Any:
    if isinstance(shape[0], torch.Size):
        size, stride, dtype = shape
        return torch.empty_strided(size, stride, dtype=dtype, device=_META)
    return tuple(map(_make, shape))
