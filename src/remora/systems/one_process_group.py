"""A process group of one process, for a library that will not work without one."""

from __future__ import annotations

import os
from contextlib import suppress

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint import _async_process_executor as checkpoint_process

from remora.core.errors import Unavailable

_ADDRESS = "MASTER_ADDR"


class OneProcessGroup:
    """Made on construction, over gloo and without a port; gone, with all it led to, on close.

    The checkpoint process of ``torch.distributed.checkpoint`` finds its parent by
    ``MASTER_ADDR``, the host's own name by default, which need not resolve: so it is set.
    """

    def __init__(self) -> None:
        if not dist.is_available():
            raise Unavailable(
                "this PyTorch is built without torch.distributed; install one that has it"
            )
        self._made = not dist.is_initialized()
        self._address = os.environ.get(_ADDRESS)
        os.environ[_ADDRESS] = "127.0.0.1"
        if self._made:
            dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)

    def close(self) -> None:
        """End the checkpoint process and the group. Calling it twice does no harm."""
        _end_checkpoint_process()
        if self._address is None:
            os.environ.pop(_ADDRESS, None)
        else:
            os.environ[_ADDRESS] = self._address
        if self._made and dist.is_initialized():
            dist.destroy_process_group()


def _end_checkpoint_process() -> None:
    """PyTorch keeps it for the life of the program and offers no way to end it."""
    process = getattr(checkpoint_process, "_CHECKPOINT_PROCESS", None)
    if process is None:
        return
    checkpoint_process._CHECKPOINT_PROCESS = None
    with suppress(OSError):
        process.__del__()
    process._process_pipe.close()
