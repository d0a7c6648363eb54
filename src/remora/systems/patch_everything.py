"""Every function of torch wrapped and recorded in full, as by TrainCheck's full instrumentation.

A re-implementation of the method (TrainCheck, OSDI'25, the second baseline of its overhead
experiment): all modules and classes of torch are walked; a wrapper records each call before and
after, with all arguments and what it returns, each object as a dictionary of its attributes, each
tensor with a hash of its elements. What it leaves out is left out here: compilers, autograd's and
the JIT's machinery, and what every module's call passes through.
"""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, ClassVar

from remora.systems.contract import Ride, System
from remora.systems.describe import describe, every_attribute, every_member
from remora.systems.tracing import TracingRide
from remora.workloads.contract import Outcome, Session

LEFT_OUT = (
    *("torch._", "torch.fx", "torch.jit", "torch.autograd", "torch.overrides", "torch.ops"),
    *("torch.compiler", "torch.export", "torch.package", "torch.testing", "torch.utils._"),
    *("torch.utils.data._utils", "torch.cuda._", "torch.distributed", "torch.classes"),
)
"""Modules whose functions are not wrapped, by how their names begin. Of the private modules those
parts are met all the same that public ones show, such as ``torch.Tensor``."""
_FUNCTIONS = (FunctionType, BuiltinFunctionType)
_NOT_WRAPPED = {"_call_impl", "_wrapped_call_impl", "_slow_forward"}
_SPECIAL = {"__init__", "__call__", "__enter__", "__exit__"}
"""Of the methods that Python calls by itself, those that are wrapped."""


@dataclass(frozen=True)
class Site:
    """A function, and the module or class that it is an attribute of."""

    owner: Any
    attribute: str
    function: Callable[..., Any]

    @property
    def words(self) -> str:
        owner = self.owner
        at = owner.__name__ if isinstance(owner, ModuleType) else _of_class(owner)
        return f"{at}.{self.attribute}"


def sites() -> list[Site]:
    """Every function to wrap, each once for each name it has."""
    classes: dict[int, type] = {}
    found = [site for module in _modules() for site in _in_module(module, classes)]
    return [*found, *(site for one in classes.values() for site in _functions(one))]


def _modules() -> list[ModuleType]:
    loaded = dict(sys.modules)
    return [
        module
        for name, module in loaded.items()
        if (name == "torch" or name.startswith("torch.")) and not name.startswith(LEFT_OUT)
        if type(module) is ModuleType and "._" not in name
    ]


def _in_module(module: ModuleType, classes: dict[int, type]) -> Iterator[Site]:
    for value in list(vars(module).values()):
        if isinstance(value, type) and _belongs(value) and not issubclass(value, tuple):
            classes.setdefault(id(value), value)
    yield from _functions(module)


def _functions(owner: Any) -> Iterator[Site]:
    for name, value in list(vars(owner).items()):
        special = name.startswith("__") and name.endswith("__") and name not in _SPECIAL
        if (
            special
            or name in _NOT_WRAPPED
            or type(value) not in (FunctionType, BuiltinFunctionType)
        ):
            continue
        if _belongs(value):
            yield Site(owner, name, value)


def _belongs(value: Any) -> bool:
    """Whether something is torch's, and of a part that is not left out."""
    home = getattr(value, "__module__", None) or "torch"
    if home in ("torch._tensor", "torch._C", "torch._C._nn", "torch._C._VariableFunctions"):
        return True
    return (home == "torch" or home.startswith("torch.")) and not home.startswith(LEFT_OUT)


def _of_class(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


class _Recorder:
    """Writes what is called while ``on``; what it calls itself while it does so is not recorded."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self._write, self._inside, self.on = write, threading.local(), False

    def wrapper(self, site: Site) -> Callable[..., Any]:
        name, function = site.words, site.function

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self._record("call", name, [args, kwargs])
            result = function(*args, **kwargs)
            self._record("return", name, result)
            return result

        return recorded

    def _record(self, event: str, name: str, values: Any) -> None:
        if not self.on or getattr(self._inside, "busy", False):
            return
        self._inside.busy = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of attributes that should not be read any more
                self._write([event, name, describe(values, every_attribute, every_member)])
        finally:
            self._inside.busy = False


class _PatchingRide(TracingRide):
    """Patched from beginning to end. What the lab reads between two steps is not recorded."""

    def __init__(self, session: Session, directory: Path) -> None:
        super().__init__(session, directory)
        self.recorder = _Recorder(self.trace.write)
        self.patched = [site for site in sites() if self._put_in(site)]

    def _put_in(self, site: Site) -> bool:
        try:
            setattr(site.owner, site.attribute, self.recorder.wrapper(site))
        except TypeError:
            return False  # a type of torch's C++ side that takes no other
        return True

    def traced_step(self) -> Outcome:
        self.recorder.on = True
        try:
            return self.session.step()
        finally:
            self.recorder.on = False

    def close(self) -> None:
        for site in self.patched:
            setattr(site.owner, site.attribute, site.function)
        self.patched = []
        super().close()


@dataclass(frozen=True)
class PatchEverything(System):
    """All functions of torch, with all their arguments."""

    name: ClassVar[str] = "patch-everything"
    title: ClassVar[str] = "every function of torch wrapped, every tensor converted and hashed"

    def ride(self, session: Session, directory: Path) -> Ride:
        return _PatchingRide(session, directory)
