"""What is watched while learning: torch's public functions, and the program's own when asked."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

FUNCTIONS = (
    "torch.nn.functional",
    "torch.nn.init",
    "torch.nn.utils",
    "torch.autograd",
    "torch.distributed",
)
"""Modules whose public functions are watched, those they only import from elsewhere left out."""
CLASSES = {
    "torch.nn.Module": ("train", "eval", "zero_grad", "requires_grad_", "load_state_dict", "to"),
    "torch.optim.Optimizer": ("zero_grad", "load_state_dict", "add_param_group"),
    "torch.optim.lr_scheduler.LRScheduler": ("step",),
    "torch.optim.lr_scheduler.ReduceLROnPlateau": ("step",),
    "torch.Tensor": ("backward", "requires_grad_", "normal_", "uniform_"),
    "torch.amp.GradScaler": ("scale", "step", "unscale_", "update"),
    "torch.autocast": ("__enter__", "__exit__"),
    "torch.utils.data.DataLoader": ("__iter__",),
    "torch.utils.data.dataloader._BaseDataLoaderIter": ("__next__",),
}
"""Methods watched one by one."""
_QUERIES = ("is_", "get_", "has_", "assert_")
"""Functions that only ask, by how their names begin: they say nothing of what a run does."""


def public_functions() -> Iterator[str]:
    """The names to watch; each function once, though it may have several."""
    met: set[int] = set()
    for name, function in [*_of_modules(), *_of_classes(), *_forwards()]:
        if id(function) not in met:
            met.add(id(function))
            yield name


def _of_modules() -> Iterator[tuple[str, Any]]:
    for module in FUNCTIONS:
        if (loaded := sys.modules.get(module)) is not None:
            for attribute in _public(loaded):
                function = vars(loaded).get(attribute)
                if _is_own_function(function, loaded) and not attribute.startswith(_QUERIES):
                    yield f"{module}.{attribute}", function


def _of_classes() -> Iterator[tuple[str, Any]]:
    for path, methods in CLASSES.items():
        owner = _class_at(path)
        for method in methods:
            if owner is not None and hasattr(owner, method):
                yield f"{path}.{method}", inspect.getattr_static(owner, method)


def _forwards() -> Iterator[tuple[str, Any]]:
    """``forward`` of torch's own modules."""
    nn = sys.modules.get("torch.nn")
    for name in _public(nn) if nn is not None else ():
        cls = getattr(nn, name)
        if isinstance(cls, type) and "forward" in vars(cls):
            yield f"torch.nn.{name}.forward", vars(cls)["forward"]


def _public(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or dir(module)
    return [name for name in names if not name.startswith("_") and hasattr(module, name)]


def _is_own_function(found: Any, module: ModuleType) -> bool:
    """One that another service watches is still what it was."""
    function = inspect.getattr_static(found, "__wrapped__", found)  # which asks nothing of it
    if not issubclass(type(function), FunctionType | BuiltinFunctionType):
        return False
    home = getattr(function, "__module__", None) or ""
    return home.startswith(("torch", module.__name__)) and home != "torch.overrides"


def _class_at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
