"""A workload's model by name, for a server that builds what its clients ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from remora.core.errors import BadValue
from remora.workloads import registry
from remora.workloads.contract import SCALES
from remora.workloads.model_workload import ModelWorkload


def workload_model(name: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """The model of the workload ``name``, such as ``resnet50-forward``, at ``config["scale"]``.

    Raises:
        UnknownName: there is no such workload.
        BadValue: it has no model of its own, or the config holds anything but a scale.
    """
    workload = registry.get(name)
    if not isinstance(workload, ModelWorkload):
        raise BadValue(f"the workload {name} has no model that could be built by itself")
    scale = config.get("scale", "quick")
    if set(config) - {"scale"} or scale not in SCALES:
        raise BadValue(f"a workload's config is {{'scale': …}}, one of: {', '.join(SCALES)}")
    return workload.module(scale)
