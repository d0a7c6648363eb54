"""What can be asked of the device a trial runs on; on a CPU, nothing is known and nothing waits."""

from __future__ import annotations

import torch


class DeviceProbe:
    """Synchronisation and meters of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_cuda = device.type == "cuda"
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(device)

    def synchronize(self) -> None:
        """Return when everything launched on the device has run."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def utilization(self) -> float | None:
        """Share of the last sampling window the device was busy; None where unknown.

        NVML averages over a window of its own, between 1/6 s and 1 s.
        """
        if not self.is_cuda:
            return None
        try:
            return torch.cuda.utilization(self.device) / 100
        except Exception:  # a meter that is not there must not fail a trial that was measured
            return None

    def peak_bytes(self) -> int | None:
        """Most bytes the allocator had handed out at once."""
        return torch.cuda.max_memory_allocated(self.device) if self.is_cuda else None


def cuda_description(device: str = "cuda") -> dict[str, str | int | float | None]:
    """The CUDA device, for the environment record; empty where there is none."""
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(device if "cuda" in device else "cuda")
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
