"""What torch cannot do beside a device written in Python, refused in words.

Of the hooks that torch asks a device by, Python may answer three; that for the allocator of pinned
memory is none of them, nor is that for bare storages.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from remora.core.errors import BadValue

_PINNING = "getPinnedMemoryAllocator"
"""What torch's own error names, which is about how backends are written in C++."""


def register(device_type: str) -> None:
    """From now on say so. Once; what works goes on as before."""
    pin: Any = torch.Tensor.pin_memory
    new: Any = torch.UntypedStorage.__new__

    @wraps(pin)
    def pin_memory(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return pin(self, *args, **kwargs)
        except NotImplementedError as error:
            if _PINNING not in str(error):
                raise
            raise BadValue(
                "no memory can be pinned in a program that has had a device on a server: torch "
                "asks that device for it; leave pin_memory out, or use a program of its own"
            ) from error

    def made(cls: type, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        if device is None:
            return new(cls, *args, **kwargs)
        if torch.device(device).type == device_type:
            raise BadValue(
                f"a storage by itself cannot be made on {device}, which would end the program; "
                f"make a tensor: torch.empty(n, dtype=torch.uint8, device={str(device)!r})"
            )
        return new(cls, *args, device=device, **kwargs)

    setattr(torch.Tensor, "pin_memory", pin_memory)  # noqa: B010  torch declares it otherwise
    setattr(torch.UntypedStorage, "__new__", made)  # noqa: B010
