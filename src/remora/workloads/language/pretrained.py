"""Models of transformers, made from their config classes: nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

PACKAGES = ("transformers",)
WEIGHT_STD = 0.02
"""The standard deviation that these models are published with (``initializer_range``)."""


def from_config(config_class: str, model_class: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """A model of ``transformers.<model_class>``; both classes by name, so that naming is free."""
    transformers = importlib.import_module("transformers")
    made_config = getattr(transformers, config_class)(**config)
    model: torch.nn.Module = getattr(transformers, model_class)(made_config)
    return model
