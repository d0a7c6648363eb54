"""Optimizers as parts: restored by their own ``load_state_dict``, after a look at what fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from remora.checkpoint.state.part import Part, refused, shape

_HOOKS = (
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def is_plain(optimizer: Optimizer) -> bool:
    """Whether torch's own ``state_dict`` and ``load_state_dict`` are all there is to it."""
    kind = type(optimizer)
    own = kind.state_dict, kind.load_state_dict
    return own == (Optimizer.state_dict, Optimizer.load_state_dict) and not any(
        getattr(optimizer, hooks, None) for hooks in _HOOKS
    )


class OptimizerPart(Part):
    """An optimizer of torch, or a subclass of one.

    ``load_state_dict`` keeps tensors that have the parameter's dtype and device. So the state of
    an optimizer that has made a step can be read straight into its tensors.
    """

    def __init__(self, at: str, optimizer: Optimizer) -> None:
        super().__init__(at)
        self.optimizer = optimizer

    def capture(self) -> Any:
        return self.optimizer.state_dict()

    def misfits(self, state: Any) -> list[str]:
        groups = state.get("param_groups") if isinstance(state, dict) else None
        if not isinstance(groups, list) or not isinstance(state.get("state"), dict):
            return [f"{self.at} has no optimizer's state in the checkpoint"]
        if not is_plain(self.optimizer):
            return []
        return self._group_misfits(groups) or self._shape_misfits(state)

    def _group_misfits(self, groups: list[Any]) -> list[str]:
        here = self.optimizer.param_groups
        if len(groups) != len(here):
            return [
                f"{self.at} has {len(groups)} param_groups in the checkpoint and {len(here)} here"
            ]
        lines = []
        for index, (group, own) in enumerate(zip(groups, here, strict=True)):
            there = group.get("params") if isinstance(group, dict) else None
            if not isinstance(there, list):
                lines.append(f"{self.at}.param_groups[{index}] has no params in the checkpoint")
            elif len(there) != len(own["params"]):
                counts = f"{len(there)} params in the checkpoint and {len(own['params'])} here"
                lines.append(f"{self.at}.param_groups[{index}] has {counts}")
        return lines

    def _shape_misfits(self, state: dict[str, Any]) -> list[str]:
        """Of what has been made here already: before its first step an optimizer has no state."""
        return [
            f"{self.at}.state.{where} is {shape(there)} in the checkpoint and {shape(here)} here"
            for where, there, here in _paired(state["state"], self.capture()["state"])
            if there.shape != here.shape
        ]

    def targets(self, state: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if is_plain(self.optimizer) and not self.misfits(state):
            for _, described, tensor in _paired(state["state"], self.capture()["state"]):
                yield described, tensor

    def load(self, state: Any, *, strict: bool) -> list[str]:
        if lines := self.misfits(state):
            return lines
        try:
            self.optimizer.load_state_dict(state)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            return refused(self.at, error, strict=strict)
        return []


def _paired(
    there: Any, here: Any, where: str = ""
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """The tensors at the same place in both, with that place."""
    if isinstance(there, torch.Tensor) and isinstance(here, torch.Tensor):
        yield where, there, here
    elif isinstance(there, dict) and isinstance(here, dict):
        for key in there.keys() & here.keys():
            yield from _paired(there[key], here[key], f"{where}.{key}" if where else str(key))
    elif isinstance(there, list | tuple) and isinstance(here, list | tuple):
        for index, (one, other) in enumerate(zip(there, here, strict=False)):
            yield from _paired(one, other, f"{where}.{index}")
