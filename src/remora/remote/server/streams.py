"""On which stream of a device a class of clients computes.

On a CUDA device high-priority units go to a stream of the greatest priority, and best-effort ones
to one of the least: should both be there at once, the device takes blocks of the former first.
Best effort may also be kept to some of the multiprocessors, by a green context. What others have
given to the default stream comes before every unit, such as weights that arrive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from remora.core.errors import BadValue, Unavailable
from remora.share.policies.contract import Priority


class Streams:
    """One stream for all: of a CPU."""

    def of(self, priority: Priority) -> AbstractContextManager[object]:
        """Within it this thread computes as a client of ``priority``."""
        return contextlib.nullcontext()


class CudaStreams(Streams):
    """One for each class.

    Args:
        best_effort_sms: multiprocessors that best-effort work may use; 0 for all.
        cuda: ``torch.cuda``.

    Raises:
        Unavailable: this torch or this device makes no such partition.
    """

    def __init__(self, device: torch.device, best_effort_sms: int = 0, cuda: Any = None) -> None:
        self._cuda: Any = cuda or torch.cuda
        least, greatest = self._cuda.Stream.priority_range()
        self._device = device
        self._streams = {
            Priority.HIGH: self._cuda.Stream(device, priority=greatest),
            Priority.BEST_EFFORT: self._cuda.Stream(device, priority=least),
        }
        self._part = self._partition(best_effort_sms) if best_effort_sms else None

    @contextlib.contextmanager
    def of(self, priority: Priority) -> Iterator[None]:
        if self._part is not None and priority is Priority.BEST_EFFORT:
            self._part.set_context()  # which makes a stream of its own the current one
            try:
                self._behind_others(self._cuda.current_stream(self._device))
                yield
            finally:
                self._part.pop_context()
        else:
            stream = self._streams[priority]
            self._behind_others(stream)
            with self._cuda.stream(stream):
                yield

    def _behind_others(self, stream: Any) -> None:
        stream.wait_stream(self._cuda.default_stream(self._device))

    def _partition(self, sms: int) -> Any:
        parts = getattr(self._cuda, "green_contexts", None)
        if parts is None or not getattr(parts, "SUPPORTED", False):
            raise Unavailable(
                f"--best-effort-sms {sms}: this torch ({torch.__version__}) has no green contexts; "
                "leave it out, or use torch 2.10 or later for CUDA 12.8 or later"
            )
        try:
            return parts.GreenContext.create(num_sms=sms, device_id=self._device.index or 0)
        except RuntimeError as error:
            has = self._cuda.get_device_properties(self._device).multi_processor_count
            raise Unavailable(
                f"--best-effort-sms {sms}: {str(error).splitlines()[0]}; choose a multiple of 8 "
                f"below {has}, which this device has, or leave it out"
            ) from None


def streams_for(device: torch.device, best_effort_sms: int = 0) -> Streams:
    """Those of ``device``.

    Raises:
        BadValue: a part of a device that is not partitioned so.
        Unavailable: see :class:`CudaStreams`.
    """
    if device.type == "cuda":
        return CudaStreams(device, best_effort_sms)
    if best_effort_sms:
        raise BadValue(
            f"--best-effort-sms {best_effort_sms}: {device.type} has no multiprocessors; leave it "
            "out, or serve a CUDA device"
        )
    return Streams()
