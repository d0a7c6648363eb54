"""Storages of the device: what copies, saves and loads a tensor by its storage finds them whole.

Torch knows nothing of their bytes, and would copy or save none.
"""

from __future__ import annotations

from typing import Any

import torch

from remora.core.errors import CannotCapture
from remora.remote.eager.memory import Memory, attach
from remora.remote.eager.recording import CURRENT, put

_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
_set = torch.ops.aten.set_.source_Storage_storage_offset
_create = torch._C._acc.create_empty_tensor
_FIRST = 1
"""Before torch's own ways to save and load a storage, the first of which is 10."""


def set_kernel(
    self: torch.Tensor, source: torch.UntypedStorage, offset: int, size: Any, stride: Any = ()
) -> torch.Tensor:
    """``aten::set_.source_Storage_storage_offset``: look at another storage of the device."""
    if not hasattr(source, "remora"):
        raise CannotCapture("a tensor of the device cannot look at memory elsewhere; use .to()")
    tensor: torch.Tensor = _set.redispatch(_META, self, source, offset, size, stride)
    return tensor


def register() -> None:
    """Have torch save storages of the device as those of the CPU, and load onto the device."""
    setattr(Memory, "cpu", _brought)  # noqa: B010  it is made here, of what stands above memories
    setattr(Memory, "clone", _copied)  # noqa: B010
    torch.serialization.register_package(_FIRST, _tag, _loaded)


def _whole(memory: Memory) -> torch.Tensor:
    """All bytes of ``memory``."""
    tensor: torch.Tensor = _create((memory.bytes,), torch.uint8)
    attach(tensor, memory)
    return tensor


def _copied(memory: Memory) -> torch.UntypedStorage:
    return _whole(memory).clone().untyped_storage()


def _brought(memory: Memory) -> torch.UntypedStorage:
    return _whole(memory).cpu().untyped_storage()


def _tag(storage: Any) -> str | None:
    return "cpu" if hasattr(storage, "remora") else None


def _loaded(storage: Any, location: str) -> Any:
    if not location.startswith("remora"):
        return None
    content = torch.empty(0, dtype=torch.uint8)
    content.set_(storage, 0, (storage.nbytes(),), (1,))
    return put(CURRENT.get(), content).untyped_storage()
