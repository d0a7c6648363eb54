"""Whether a workload fits, said before anything is built."""

from __future__ import annotations

import torch

from remora.core.errors import TooLarge
from remora.core.units import format_bytes
from remora.workloads.contract import Footprint, Scale, Workload
from remora.workloads.devices import free_bytes


def check_fits(
    workload: Workload, scale: Scale, device: torch.device, available_bytes: int | None = None
) -> Footprint:
    """The footprint of ``workload``, known to fit into ``available_bytes`` (None: what is free).

    Raises:
        TooLarge: it does not fit; the message shows the arithmetic.
    """
    available = free_bytes(device) if available_bytes is None else available_bytes
    footprint = workload.footprint(scale)
    if footprint.total > available:
        raise TooLarge(
            f"{workload.name} at {scale} scale needs {arithmetic(footprint)}; "
            f"{format_bytes(available)} is free on {device}; {_next_step(scale)}"
        )
    return footprint


def arithmetic(footprint: Footprint) -> str:
    """The sum in words: ``6.2 GiB weights + … = 25.8 GiB``."""
    parts = (
        (footprint.weights, "weights"),
        (footprint.gradients, "gradients"),
        (footprint.optimizer, "optimizer"),
        (footprint.activations, "activations"),
    )
    terms = " + ".join(f"{format_bytes(size)} {name}" for size, name in parts if size)
    return f"{terms} = {format_bytes(footprint.total)}"


def _next_step(scale: Scale) -> str:
    smaller = {"paper": "standard", "standard": "quick"}.get(scale)
    return f"use --scale {smaller} or a larger machine" if smaller else "use a larger machine"
