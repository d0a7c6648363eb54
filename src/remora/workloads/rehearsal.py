"""What a workload needs in memory, found by rehearsing its steps on tensors without data.

The session is built and stepped on PyTorch's meta device, where tensors have shapes and no memory,
while every storage that lives is counted. Nothing is estimated by formula, so the arithmetic cannot
drift from the model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from remora.workloads.contract import Footprint, Scale, Workload

_YES = True
"""The answer to a model that reads a value in its forward pass. What the models here read is
whether all tokens are real (none padded, sequences not packed), and so they are."""


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return _YES
        result = func(*args, **(kwargs or {}))
        for leaf in tree_iter(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
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


@cache
def rehearse(workload: Workload, scale: Scale) -> Footprint:
    """The footprint of ``workload`` at ``scale``, of one step; when training, of two.

    Optimizers make their state in the first step, so that the second one's peak is the highest.
    ``activations`` is what that peak needs beyond weights, gradients and optimizer state.
    """
    meter = _LiveBytes()
    with meter:
        session = workload.build(scale, torch.device("meta"))
        meter.peak = meter.live
        session.step()
        if session.optimizer:
            session.step()
    parameters = list(session.model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    weights = _bytes([*parameters, *session.model.buffers()])
    gradients = _bytes(trained) if session.optimizer else 0
    optimizer = _bytes(tree_iter(session.optimizer.state_dict())) if session.optimizer else 0
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
