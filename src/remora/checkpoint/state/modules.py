"""Modules as parts: restored in place, so that everything that refers to a parameter still does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from remora.checkpoint.state.part import Part, refused, same_memory, shape

_WRAPPED_IN = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
}
"""Wrappers by class, and the child that is the model: a checkpoint has the model's own names."""
_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_STOCK = {
    "state_dict": (nn.Module.state_dict,),
    "_save_to_state_dict": (nn.Module._save_to_state_dict,),
    "get_extra_state": (nn.Module.get_extra_state,),
    "load_state_dict": (nn.Module.load_state_dict,),
    "set_extra_state": (nn.Module.set_extra_state,),
    # These two only make up for what checkpoints of old releases of torch lack.
    "_load_from_state_dict": (
        nn.Module._load_from_state_dict,
        _NormBase._load_from_state_dict,
        _InstanceNorm._load_from_state_dict,
    ),
}
"""Methods by which a module may have its own say in its state, and those that have none."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, ``torch.compile`` and the like."""
    while (child := _WRAPPED_IN.get(type(module).__name__)) is not None:
        module = getattr(module, child)
    return module


def is_plain(module: nn.Module) -> bool:
    """Whether the state of ``module`` is its tensors by name, and nothing else has a say in it."""
    return all(_is_plain_itself(each) for each in module.modules()) and all(
        type(tensor) in (torch.Tensor, nn.Parameter) for tensor in _live(module).values()
    )


def _is_plain_itself(module: nn.Module) -> bool:
    if any(getattr(module, hooks, None) for hooks in _HOOKS):
        return False
    return all(
        getattr(getattr(module, name), "__func__", None) in stock for name, stock in _STOCK.items()
    )


def _live(module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and persistent buffers by name, tied ones under each of their names."""
    return module.state_dict(keep_vars=True)


class ModulePart(Part):
    """A module. One with hooks or methods of its own for its state loads it by those."""

    def __init__(self, at: str, module: nn.Module) -> None:
        super().__init__(at)
        self.module = unwrapped(module)

    def capture(self) -> Any:
        return self.module.state_dict()

    def misfits(self, state: Any) -> list[str]:
        if not isinstance(state, dict):
            return [
                f"{self.at} is a {type(state).__name__} in the checkpoint, not a module's state"
            ]
        if not is_plain(self.module):
            return []
        live = _live(self.module)
        lines = [
            f"{self.at}.{name} is not in the checkpoint" for name in live.keys() - state.keys()
        ]
        lines += [
            f"{self.at}.{name} is only in the checkpoint" for name in state.keys() - live.keys()
        ]
        for name in live.keys() & state.keys():
            if not isinstance(state[name], torch.Tensor):
                lines.append(f"{self.at}.{name} is a {type(state[name]).__name__} there")
            elif state[name].shape != live[name].shape:
                shapes = f"{shape(state[name])} in the checkpoint and {shape(live[name])} here"
                lines.append(f"{self.at}.{name} is {shapes}")
        return sorted(lines)

    def targets(self, state: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if isinstance(state, dict) and is_plain(self.module):
            for name, tensor in _live(self.module).items():
                if isinstance(described := state.get(name), torch.Tensor):
                    yield described, tensor

    def load(self, state: Any, *, strict: bool) -> list[str]:
        if not is_plain(self.module):
            return self._load_by_its_own(state, strict=strict)
        lines = self.misfits(state)
        if not isinstance(state, dict):
            return lines
        with torch.no_grad():
            for name, tensor in _live(self.module).items():
                given = state.get(name)
                if not isinstance(given, torch.Tensor) or given.shape != tensor.shape:
                    continue
                if not same_memory(given, tensor):
                    tensor.copy_(given)
        return lines

    def _load_by_its_own(self, state: Any, *, strict: bool) -> list[str]:
        try:
            keys = self.module.load_state_dict(state, strict=strict)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            return refused(self.at, error, strict=strict)
        missing = [f"{self.at}.{name} is not in the checkpoint" for name in keys.missing_keys]
        return missing + [
            f"{self.at}.{name} is only in the checkpoint" for name in keys.unexpected_keys
        ]
