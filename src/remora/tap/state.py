"""The state tap: find a program's models, optimizers and the rest without being told.

A scan of the live objects, made only when asked. Types are compared with ``issubclass(type(x),
…)``, never ``isinstance``: that reads ``__class__``, which lazy modules and proxies answer by
importing what they stand for. torch itself is not imported: a program without it has no state.

A scan costs about 0.4 µs a live object (measured on a busy 2-core machine): 150 ms where torch
and transformers have made 380,000 of them. :attr:`FoundState.cost_ms` says what it was.
"""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from remora.tap.whereabouts import name_objects

if TYPE_CHECKING:
    import torch

_KINDS = {
    "model": ("torch.nn.modules.module", "Module"),
    "optimizer": ("torch.optim.optimizer", "Optimizer"),
    "scheduler": ("torch.optim.lr_scheduler", "LRScheduler"),
    "scaler": ("torch.amp.grad_scaler", "GradScaler"),
    "dataloader": ("torch.utils.data.dataloader", "DataLoader"),
}
_WRAPS_MODULE = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
}
"""Classes whose instances only run another module, and the child that it is."""
_WRAPS_OPTIMIZER = ("optimizer", "_optimizer", "base_optimizer", "optim")
"""Attributes under which an optimizer that wraps another keeps it (accelerate, Lightning, SAM)."""
_OURS = tuple(f"remora.{room}." for room in ("tap", "check", "checkpoint", "share", "remote"))

T = TypeVar("T")


@dataclass(frozen=True)
class FoundModel:
    """A model: a module with parameters that is no other live module's child, unwrapped."""

    name: str
    module: torch.nn.Module
    parameters: int
    """Elements, shared ones once."""
    wrappers: tuple[torch.nn.Module, ...] = ()
    """DistributedDataParallel, OptimizedModule and the like around it, innermost first."""
    trained_by: tuple[str, ...] = ()
    """Names of the optimizers that hold any of its parameters."""


@dataclass(frozen=True)
class FoundOptimizer:
    name: str
    optimizer: torch.optim.Optimizer
    wrappers: tuple[Any, ...] = ()
    trains: tuple[str, ...] = ()
    """Names of the models whose parameters it holds."""


@dataclass(frozen=True)
class FoundScheduler:
    name: str
    scheduler: Any
    drives: str | None
    """Name of its optimizer."""


@dataclass(frozen=True)
class FoundObject:
    """A GradScaler or a DataLoader."""

    name: str
    value: Any


@dataclass(frozen=True)
class FoundState:
    """What a program holds. It keeps everything it names alive: let go of it after use."""

    models: tuple[FoundModel, ...] = ()
    """The trained ones first, then the largest."""
    optimizers: tuple[FoundOptimizer, ...] = ()
    schedulers: tuple[FoundScheduler, ...] = ()
    scalers: tuple[FoundObject, ...] = ()
    dataloaders: tuple[FoundObject, ...] = ()
    cost_ms: float = 0.0
    """How long finding it took, in milliseconds."""

    @property
    def trained(self) -> tuple[FoundModel, ...]:
        """The models that an optimizer owns parameters of."""
        return tuple(model for model in self.models if model.trained_by)


class State:
    """Find a program's state. ``job.state`` is one of these."""

    _hidden: ClassVar[weakref.WeakKeyDictionary[Any, None]] = weakref.WeakKeyDictionary()

    def hide(self, thing: object) -> None:
        """Leave ``thing`` out of what is found: a service's own copy of a model, for instance."""
        self._hidden[thing] = None

    def find(self) -> FoundState:
        """Scan the live objects.

        Names are those the program uses, looked up in ``__main__``, in the running functions and
        one or two attributes below (``trainer.model``, ``models['g']``), else the class's with an
        ordinal (``Linear#0``). Modules without parameters, such as losses, are not models.
        Objects that only await garbage collection are found too.
        """
        began = time.perf_counter_ns()
        scan = _Scan(self._hidden)
        return scan.assemble(lambda: (time.perf_counter_ns() - began) / 1e6)


class _Scan:
    def __init__(self, hidden: Iterable[Any]) -> None:
        left_out = {id(thing) for thing in hidden}
        found = _live_objects(left_out)
        self.modules, self.module_wrappers = _root_models(found["model"])
        self.optimizers, self.optimizer_wrappers = _unwrapped_optimizers(found["optimizer"])
        self.schedulers = _without_parts(found["scheduler"], "_schedulers")
        self.scalers, self.dataloaders = found["scaler"], found["dataloader"]
        things = [*self.modules, *self.optimizers, *self.schedulers, *self.scalers,
                  *self.dataloaders]  # fmt: skip
        self.names = self._named(things)

    def assemble(self, cost_ms: Callable[[], float]) -> FoundState:
        links = self._links()
        models = [self._model(module, links) for module in self.modules]
        models.sort(key=lambda model: (not model.trained_by, -model.parameters, model.name))
        return FoundState(
            models=tuple(models),
            optimizers=_by_name(self._optimizer(one, links) for one in self.optimizers),
            schedulers=_by_name(self._scheduler(one) for one in self.schedulers),
            scalers=_by_name(FoundObject(self._name(one), one) for one in self.scalers),
            dataloaders=_by_name(FoundObject(self._name(one), one) for one in self.dataloaders),
            cost_ms=cost_ms(),
        )

    def _named(self, things: list[Any]) -> dict[int, str]:
        """Names by id. A thing may be known by its wrapper only: it takes the shorter name."""
        wrappers = {**self.module_wrappers, **self.optimizer_wrappers}
        around = [wrapper for group in wrappers.values() for wrapper in group]
        names = name_objects([*things, *around])
        for inner, group in wrappers.items():
            candidates = [names[inner], *(names[id(wrapper)] for wrapper in group)]
            names[inner] = min(candidates, key=_awkwardness)
        return names

    def _name(self, thing: Any) -> str:
        return self.names[id(thing)]

    def _links(self) -> list[tuple[int, int]]:
        """Pairs (id of model, id of optimizer) that share a parameter."""
        owners: dict[int, list[int]] = {}
        for module in self.modules:
            for parameter in module.parameters():
                owners.setdefault(id(parameter), []).append(id(module))
        pairs = {
            (owner, id(optimizer)): None
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            for owner in owners.get(id(parameter), ())
        }
        return list(pairs)

    def _model(self, module: Any, links: list[tuple[int, int]]) -> FoundModel:
        return FoundModel(
            name=self._name(module),
            module=module,
            parameters=_count_parameters(module),
            wrappers=tuple(self.module_wrappers.get(id(module), ())),
            trained_by=tuple(sorted(self.names[b] for a, b in links if a == id(module))),
        )

    def _optimizer(self, optimizer: Any, links: list[tuple[int, int]]) -> FoundOptimizer:
        return FoundOptimizer(
            name=self._name(optimizer),
            optimizer=optimizer,
            wrappers=tuple(self.optimizer_wrappers.get(id(optimizer), ())),
            trains=tuple(sorted(self.names[a] for a, b in links if b == id(optimizer))),
        )

    def _scheduler(self, scheduler: Any) -> FoundScheduler:
        driven = _innermost_optimizer(scheduler.__dict__.get("optimizer"))
        return FoundScheduler(self._name(scheduler), scheduler, self.names.get(id(driven)))


# ---------------------------------------------------------------- finding


def _live_objects(left_out: set[int]) -> dict[str, list[Any]]:
    """Live objects by kind, in the order in which the collector lists them."""
    kinds = {
        kind: getattr(sys.modules[module], name)
        for kind, (module, name) in _KINDS.items()
        if module in sys.modules and hasattr(sys.modules[module], name)
    }
    found: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    if not kinds:
        return found
    things = gc.get_objects()
    # Few types among very many objects: both passes over the objects are kept to the least.
    kind_of = {cls: kind for cls in set(map(type, things)) if (kind := _kind_of(cls, kinds))}
    for thing in [thing for thing in things if type(thing) in kind_of]:
        if id(thing) not in left_out:
            found[kind_of[type(thing)]].append(thing)
    return found


def _kind_of(cls: type, kinds: dict[str, type]) -> str | None:
    if f"{cls.__module__}.".startswith(_OURS):
        return None
    # type.__subclasscheck__ is not overridden for these, and __mro__ runs no code of the class.
    mro = type.__dict__["__mro__"].__get__(cls)
    return next((kind for kind, base in kinds.items() if base in mro), None)


def _root_models(modules: list[Any]) -> tuple[list[Any], dict[int, list[Any]]]:
    """Models that are nobody's child, unwrapped, and the wrappers around each."""
    modules = [module for module in modules if "_modules" in module.__dict__]
    children = {id(child) for one in modules for child in one.__dict__["_modules"].values()}
    roots: dict[int, Any] = {}
    wrappers: dict[int, list[Any]] = {}
    for module in modules:
        if id(module) in children:
            continue
        inner, around = _unwrap_module(module)
        if next(inner.parameters(), None) is not None:
            roots[id(inner)] = inner
            if around:
                wrappers.setdefault(id(inner), []).extend(reversed(around))
    return list(roots.values()), wrappers


def _unwrap_module(module: Any) -> tuple[Any, list[Any]]:
    around: list[Any] = []
    while True:
        child = _WRAPS_MODULE.get(type(module).__name__)
        inner = module.__dict__["_modules"].get(child) if child else None
        if inner is None:
            return module, around
        around.append(module)
        module = inner


def _unwrapped_optimizers(optimizers: list[Any]) -> tuple[list[Any], dict[int, list[Any]]]:
    inner_ones: dict[int, Any] = {}
    wrappers: dict[int, list[Any]] = {}
    for optimizer in optimizers:
        inner = _innermost_optimizer(optimizer)
        if "param_groups" not in inner.__dict__:
            continue  # not initialised
        inner_ones[id(inner)] = inner
        if inner is not optimizer:
            wrappers.setdefault(id(inner), []).append(optimizer)
    return list(inner_ones.values()), wrappers


def _innermost_optimizer(optimizer: Any) -> Any:
    base = sys.modules["torch.optim.optimizer"].Optimizer
    for _ in range(8):  # a wrapper that holds itself must not hold us
        held = [getattr(optimizer, "__dict__", {}).get(name) for name in _WRAPS_OPTIMIZER]
        inner = next((one for one in held if issubclass(type(one), base)), None)
        if inner is None or inner is optimizer:
            break
        optimizer = inner
    return optimizer


def _without_parts(things: list[Any], attribute: str) -> list[Any]:
    """Those that are no part of another of them (the schedulers in a SequentialLR)."""
    parts = {id(part) for thing in things for part in thing.__dict__.get(attribute, ())}
    return [thing for thing in things if id(thing) not in parts]


def _count_parameters(module: Any) -> int:
    """Elements; a lazy module's parameters, whose shape is not known yet, count for nothing."""
    uninitialized = sys.modules["torch.nn.parameter"].UninitializedTensorMixin
    return sum(
        parameter.numel()
        for parameter in module.parameters()
        if not issubclass(type(parameter), uninitialized)
    )


def _awkwardness(name: str) -> tuple[bool, int]:
    return "#" in name, name.count(".") + name.count("[")


def _by_name(found: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(found, key=lambda one: one.name))  # type: ignore[attr-defined]
