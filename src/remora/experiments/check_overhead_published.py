"""What was published of the overhead experiment: TrainCheck, OSDI'25, time an iteration × native.

The machines were others, and so were some sizes; ``selective`` recorded one step in ten there. The
earlier values are of an earlier version of the same experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from remora.lab.results import Arm
from remora.systems.invariant_sets import DEPLOYED

SETTRACE, EVERYTHING, SELECTIVE = "settrace", "patch-everything", "selective"
METHODS = (SETTRACE, EVERYTHING, SELECTIVE)

_TABLE = {
    "bert-classification-train": (3238, 147, 1.077),
    "dcgan-train": (159, 17.1, 0.986),
    "gat-train": (7.06, 2.32, 0.992),
    "gcn-train": (93.1, 31.2, 1.125),
    "mnist-cnn-train": (988, 118, 1.221),
    "resnet18-train": (52.3, 5.26, 1.002),
    "siamese-train": (1124, 94.6, 1.019),
    "vit-train": (1715, 130, 1.139),
    "t5-base-train": (131, 5.57, 1.007),
    "vae-train": (477, 51.1, 1.362),
    "word-lm-train": (205.34, 63.12, 1.17),  # earlier
}
PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        workload: MappingProxyType(dict(zip(METHODS, values, strict=True)))
        for workload, values in _TABLE.items()
    }
)
"""By workload and method."""


def method_of(arm: Arm) -> str | None:
    """The published method that ``arm`` is to be held against; None where there is none."""
    if arm.system in (SETTRACE, EVERYTHING):
        return arm.system
    if arm.system == "traincheck":
        return EVERYTHING if arm.options.get("full") else SELECTIVE
    selective = arm.system == "check" and arm.options.get("invariants") == DEPLOYED
    return SELECTIVE if selective else None


def published(arm: Arm) -> float | None:
    """What was published of ``arm``'s workload and method."""
    method = method_of(arm)
    return PUBLISHED.get(arm.workload, {}).get(method) if method else None
