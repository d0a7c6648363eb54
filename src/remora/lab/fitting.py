"""Which arms fit in memory: a workload, and what its system runs beside it."""

from __future__ import annotations

import torch

from remora.core.errors import TooLarge
from remora.core.units import format_bytes
from remora.lab.results import Plan
from remora.systems import registry as systems
from remora.workloads import registry as workloads
from remora.workloads.contract import SCALES, Scale
from remora.workloads.devices import free_bytes, parse_device
from remora.workloads.fits import arithmetic, check_fits


def known_scale(name: str) -> Scale:
    """The scale of workloads that is called so."""
    return next(scale for scale in SCALES if scale == name)


def too_large(plan: Plan) -> dict[str, str]:
    """Arms that do not fit in what is free now, by name, with the arithmetic."""
    device = parse_device(plan.device)
    free = free_bytes(device)
    found = {}
    for arm in plan.arms:
        scale = known_scale(arm.scale or plan.scale)
        beside = systems.create(arm.system, arm.options).beside()
        if reason := _reason(arm.workload, scale, beside, device, free):
            found[arm.name] = reason
    return found


def _reason(
    name: str, scale: Scale, beside: tuple[str, str] | None, device: torch.device, free: int
) -> str | None:
    try:
        first = check_fits(workloads.get(name), scale, device, free)
    except TooLarge as error:
        return str(error)
    if beside is None:
        return None
    other = workloads.get(beside[0]).footprint(known_scale(beside[1]))
    total = first.total + other.total
    if total <= free:
        return None
    return (
        f"{name} needs {arithmetic(first)}, {beside[0]} beside it {arithmetic(other)}: together "
        f"{format_bytes(total)}; {format_bytes(free)} is free on {device}; choose other --pairs, a "
        "smaller --scale or a larger machine"
    )
