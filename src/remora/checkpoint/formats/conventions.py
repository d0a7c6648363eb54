"""What programs call the parts of what they save."""

from __future__ import annotations

from typing import Any

import torch

_NAMES = {
    "model": ("model", "state_dict", "model_state_dict", "net", "network"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optim", "opt"),
    "scheduler": (
        "scheduler", "lr_scheduler", "scheduler_state_dict", "lr_scheduler_state_dict",
    ),
    "scaler": ("scaler", "scaler_state_dict", "grad_scaler"),
    "ema": ("ema", "ema_state_dict", "model_ema"),
}  # fmt: skip
"""Our name for a part, and those that stand for it. The first that is there counts."""
_WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and ``torch.compile`` put before every name of a module."""


def as_parts(loaded: dict[Any, Any]) -> dict[str, Any]:
    """``loaded`` by part: under our names, a bare module's state as ``{"model": …}``.

    Wrappers' prefixes are taken off the model's names, and an optimizer's parameters are
    numbered by ints where a format made text of them.
    """
    if loaded and all(isinstance(value, torch.Tensor) for value in loaded.values()):
        loaded = {"model": loaded}
    parts = dict(loaded)
    for ours, theirs in _NAMES.items():
        found = [name for name in theirs if name in parts]
        if found and ours not in parts:
            parts[ours] = parts.pop(found[0])
    for name in ("model", "ema"):
        if isinstance(parts.get(name), dict):
            parts[name] = _unwrapped(parts[name])
    if isinstance(parts.get("optimizer"), dict):
        parts["optimizer"] = _numbered(parts["optimizer"])
    return parts


def _unwrapped(state: dict[Any, Any]) -> dict[Any, Any]:
    for prefix in _WRAPPERS * 2:  # either may be around the other
        if state and all(isinstance(name, str) and name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _numbered(optimizer: dict[Any, Any]) -> dict[Any, Any]:
    if "param_groups" not in optimizer:
        return optimizer
    state = optimizer.get("state", {})
    if isinstance(state, dict):
        state = {
            int(key) if isinstance(key, str) and key.isdecimal() else key: value
            for key, value in state.items()
        }
    return {**optimizer, "state": state}
