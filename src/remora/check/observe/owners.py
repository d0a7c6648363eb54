"""Models and optimizers that have been found, held weakly, and the entries they have."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterator
from typing import Any

from remora.check.observe.places import GroupEntry, ModuleEntry, StateEntry
from remora.check.values import is_module, is_tensor


class KnownModel:
    """A model under the name the program calls it by."""

    def __init__(self, module: Any, name: str) -> None:
        self.module: weakref.ref[Any] = weakref.ref(module)
        self.name = name
        self.is_named = "#" not in name
        """Whether a name of the program leads to it, rather than one made up."""

    def holds(self, parts: Collection[int]) -> bool:
        """Whether any of ``parts`` (ids of modules) is in it."""
        module = self.module()
        return module is not None and any(id(part) in parts for part in module.modules())

    def entries(self, where: str) -> Iterator[tuple[str, ModuleEntry]]:
        """(name, how to get it) of its ``_parameters`` or ``_buffers``."""
        model = self.module()
        if model is None:
            return
        for path, module in model.named_modules():
            prefix = f"{self.name}.{path}" if path else self.name
            for key, tensor in list(getattr(module, where).items()):
                if tensor is not None:
                    yield f"{prefix}.{key}", ModuleEntry(weakref.ref(module), where, key)


class KnownOptimizer:
    """An optimizer, the ids of the parameters it trains, and what of it may change."""

    def __init__(self, optimizer: Any, name: str | None) -> None:
        self.optimizer: weakref.ref[Any] = weakref.ref(optimizer)
        self.name = name or type(optimizer).__name__
        self.is_named = name is not None and "#" not in name
        self.met = False
        """Whether a call on it was seen."""
        self.trained: set[int] = set()
        self.own: set[int] = set()
        """Its parameters and itself."""
        self.still: set[int] = set()
        """Those whose learning rate is 0."""
        self._signature: list[Any] = []

    def has_changed(self) -> bool:
        """Whether groups or state have grown, or a learning rate became 0 or is it no more."""
        optimizer = self.optimizer()
        if optimizer is None:
            return bool(self._signature)
        groups = optimizer.param_groups
        signature: list[Any] = [len(optimizer.state)]
        for one in groups:
            trained, rate = one["params"], one.get("lr")
            is_zero = rate == 0.0 if type(rate) is float else _is_zero(rate)
            signature += id(trained), len(trained), is_zero
        if signature == self._signature:
            return False
        self._signature = signature
        self.trained = {id(one) for group in groups for one in group["params"]}
        self.own = {*self.trained, id(optimizer)}
        self.still = {
            id(one) for group in groups if _is_zero(group.get("lr")) for one in group["params"]
        }
        return True

    def entries(self) -> Iterator[tuple[str, GroupEntry]]:
        """(name, how to get it) of its parameters."""
        optimizer = self.optimizer()
        for group, options in enumerate(optimizer.param_groups if optimizer is not None else ()):
            for place in range(len(options["params"])):
                name = f"{self.name}.param_groups[{group}].params[{place}]"
                yield name, GroupEntry(self.optimizer, group, place)

    def state_entries(self, names: dict[int, str]) -> Iterator[tuple[str, StateEntry]]:
        """(name, how to get it) of the tensors in its state.

        ``names`` are those of parameters, by id.
        """
        for own_name, get in self.entries():
            optimizer, parameter = self.optimizer(), get()
            if optimizer is None or parameter not in optimizer.state:
                continue
            name = names.get(id(parameter), own_name)
            for key, value in list(optimizer.state[parameter].items()):
                if is_tensor(type(value)):
                    yield f"{self.name}.{key}[{name}]", StateEntry(get, key)


def own_of(subject: Any) -> Collection[int] | None:
    """Ids of a module's modules, of the tensors in a list; None where it cannot be told.

    An optimizer that no scan has found is told as its parameters.
    """
    kind = type(subject)
    if is_module(kind):
        return {id(part) for part in subject.modules()}
    if is_tensor(kind):
        return {id(subject)}
    if is_optimizer(kind):
        return {id(one) for group in subject.param_groups for one in group["params"]}
    if kind in (list, tuple):
        return {id(one) for one in subject}
    return None


def is_optimizer(kind: type) -> bool:
    optimizers = sys.modules.get("torch.optim.optimizer")
    return optimizers is not None and issubclass(kind, optimizers.Optimizer)


def _is_zero(rate: Any) -> bool:
    """Whether a learning rate is 0; a tensor on a device is not waited for."""
    if is_tensor(type(rate)):
        return bool(rate.device.type == "cpu" and rate.numel() == 1 and float(rate) == 0.0)
    return bool(rate == 0)
