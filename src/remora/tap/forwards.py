"""The forward tap: where one call of a root module begins and ends, for jobs without an optimizer.

A root is a module called from outside any other module's forward. Roots are discovered through
torch's global forward hook, which every module call then pays for; so it is armed for one root
call only, and each root found gets hooks of its own. Discovery is armed again after the 1st, 2nd,
4th, 8th … root call since the last discovery, so a second model is found and the cost vanishes.
A root called first at a moment when discovery is not armed is seen from the next arming on.

What is a root is read off the stack, not counted up and down, so a forward that raises leaves
nothing behind, and a root that nobody wants to hear of before its forward needs one hook only.
A good third of what a subscription adds is torch's own path for a module with hooks.
Left out: replicas that DataParallel makes for its devices, modules called again
in backward (activation checkpointing), and whatever runs inside a compiled graph, so also a model
compiled in place by ``model.compile()``; what ``torch.compile(model)`` returns is seen.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from threading import get_ident
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from remora.tap.imports import ImportWatch
from remora.tap.names import Place, find
from remora.tap.subscription import Admit, Subscription, in_callback
from remora.tap.undisturbed import modes_are_on, undisturbed
from remora.tap.wrap import Site, Watcher, unwatch, watch

if TYPE_CHECKING:
    import torch

_MODULES = "torch.nn.modules.module"
_COMPILED = "torch._dynamo.eval_frame"


class Forward(NamedTuple):
    """One forward of a root module. Keeping it keeps the model and its output alive."""

    module: torch.nn.Module
    number: int
    """Which forward of this module, from 0; the same before and after."""
    args: tuple[Any, ...]
    output: Any
    """What it returned; None before."""


Callback = Callable[[Forward], object]
_new = tuple.__new__
"""Makes a Forward in a third of the time its own constructor takes."""


class _Watcher(NamedTuple):
    callback: Callback
    subscription: Subscription


_taps: weakref.WeakSet[RootForwards] = weakref.WeakSet()


@contextlib.contextmanager
def without_hooks() -> Iterator[None]:
    """Within it no module has a hook of ours: ``torch.jit`` would compile it."""
    taps = list(_taps)
    roots = [(tap, root) for tap in taps for root in tap.roots()]
    armed = [tap for tap in taps if tap.disarm()]
    for _, root in roots:
        root.unhook()
    try:
        yield
    finally:
        for tap, root in roots:
            tap.hook_again(root)
        for tap in armed:
            tap.arm()


class RootForwards:
    """The hooks themselves, shared by all who subscribe to one job."""

    def __init__(self) -> None:
        _taps.add(self)
        self._before: tuple[_Watcher, ...] = ()
        self._after: tuple[_Watcher, ...] = ()
        self._roots: dict[int, _Root] = {}
        self._discovery: Any = None
        self._calls_until_armed = 1
        self._interval = 1
        self._waiting: list[Callable[[], None]] = []
        self._compiled: tuple[Site, Watcher] | None = None
        self._lock = threading.RLock()

    def subscribe(
        self, imports: ImportWatch, admit: Admit, after: Callback | None, before: Callback | None
    ) -> Subscription:
        subscription = admit("in a forward callback", self._remove)
        if not subscription.live:
            return subscription
        if before is not None:
            self._before = (*self._before, _Watcher(before, subscription))
        if after is not None:
            self._after = (*self._after, _Watcher(after, subscription))
        for root in list(self._roots.values()):
            root.hook(bool(self._before))
        if not self._waiting:
            self._waiting.append(imports.when_imported(_MODULES, self.arm))
            self._waiting.append(imports.when_imported(_COMPILED, self._watch_compiled))
        else:
            self.arm()
        return subscription

    def _remove(self, subscription: Subscription) -> None:
        self._before = tuple(one for one in self._before if one.subscription is not subscription)
        self._after = tuple(one for one in self._after if one.subscription is not subscription)
        if not (self._before or self._after):
            while self._waiting:
                self._waiting.pop()()
            self.disarm()
            self._unwatch_compiled()
            with self._lock:
                roots, self._roots = self._roots, {}
            for root in roots.values():
                root.unhook()

    def roots(self) -> list[_Root]:
        """Those that are known."""
        with self._lock:
            return list(self._roots.values())

    def hook_again(self, root: _Root) -> None:
        """``root`` was unhooked for a while; it stays so if nobody wants it any more."""
        with self._lock:
            if self._roots.get(root.key) is root:
                root.hook(bool(self._before))

    # ------------------------------------------------------------ discovery

    def arm(self) -> None:
        with self._lock:
            wanted = self._before or self._after
            if self._discovery is None and wanted and _MODULES in sys.modules:
                from torch.nn.modules.module import register_module_forward_pre_hook

                self._discovery = register_module_forward_pre_hook(self._on_any_forward)

    def disarm(self) -> bool:
        """Whether it was armed."""
        with self._lock:
            found, self._discovery = self._discovery, None
            if found is not None:
                found.remove()
            return found is not None

    def _on_any_forward(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if _compiling() or self._discovery is None or get_ident() in in_callback:
            return
        if _is_root_call(module, _enclosing_modules(sys._getframe(1))):
            root = self._meet(module)
            if root is not None and self._before:
                self.begin(root, module, args)  # torch has listed this call's hooks, without ours

    def _meet(self, module: torch.nn.Module) -> _Root | None:
        """A root call begins. Returns the root if it is a new one."""
        self.disarm()
        known = self._roots.get(id(module))
        if known is not None and known.module() is module:
            return None
        root = _Root(self, module)
        root.hook(bool(self._before))
        with self._lock:
            self._roots[id(module)] = root
        self._interval = self._calls_until_armed = 1
        return root

    def _watch_compiled(self) -> None:
        """Meet compiled modules before they are called: they warn where a global hook is on."""
        place = find(f"{_COMPILED}.OptimizedModule.__call__")
        if isinstance(place, Place):
            never_fails = Subscription(lambda _: None, lambda error: None)
            watcher = Watcher(self._on_compiled, None, None, never_fails)
            self._compiled = watch(place, watcher), watcher

    def _unwatch_compiled(self) -> None:
        if self._compiled is not None:
            unwatch(*self._compiled)
            self._compiled = None

    def _on_compiled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._discovery is not None and _is_root_call(args[0], _modules_on(sys._getframe(1))):
            self._meet(args[0])

    def forget(self, root: _Root) -> None:
        """``root``'s module is gone."""
        with self._lock:
            if self._roots.get(root.key) is root:
                del self._roots[root.key]

    # ------------------------------------------------------------ a root's own calls

    def begin(self, root: _Root, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self._tell(self._before, Forward(module, root.calls, args, None))

    def end(self, root: _Root, module: torch.nn.Module, args: tuple[Any, ...], out: Any) -> None:
        index = root.calls
        root.calls = index + 1
        if self._after:
            self._tell(self._after, _new(Forward, (module, index, args, out)))
        self._calls_until_armed -= 1
        if self._calls_until_armed <= 0:
            self._calls_until_armed = self._interval
            self._interval *= 2
            self.arm()

    def _tell(self, watchers: tuple[_Watcher, ...], forward: Forward) -> None:
        ident = get_ident()
        in_callback.add(ident)
        try:
            for callback, subscription in watchers:
                if subscription.live:
                    try:
                        if modes_are_on():
                            undisturbed(callback, forward)
                        else:
                            callback(forward)
                    except Exception as error:
                        subscription.fail(error)
        finally:
            in_callback.discard(ident)


class _Root:
    """A root module's hooks. Holds the module weakly."""

    def __init__(self, tap: RootForwards, module: torch.nn.Module) -> None:
        self.key = id(module)
        self.calls = 0
        self.module: weakref.ref[Any] = weakref.ref(module, lambda _: tap.forget(self))
        self._tap = tap
        self._handles: dict[str, Any] = {}

    def hook(self, before: bool) -> None:
        """Hook the module's end, and its beginning if ``before``."""
        module = self.module()
        if module is None:
            return
        with contextlib.suppress(RuntimeError):  # a scripted module may refuse
            if before and "before" not in self._handles:
                hook = _Hook(partial(self._tap.begin, self), self.module)
                self._handles["before"] = module.register_forward_pre_hook(hook)
            if "after" not in self._handles:
                hook = _Hook(partial(self._tap.end, self), self.module)
                self._handles["after"] = module.register_forward_hook(hook)

    def unhook(self) -> None:
        while self._handles:
            self._handles.popitem()[1].remove()


class _Hook:
    """A hook that a copy or a pickle of its module does not carry on.

    ``copy.deepcopy(model)`` copies the hooks as well; the copy's takes itself out when first
    called. ``torch.save(model)`` stores in its place a callable of the standard library that does
    nothing, so that the file loads where there is no Remora. A shallow copy, and DataParallel's
    replicas, share the hooks of the original: there they do nothing.
    """

    def __init__(self, call: Callable[..., None], module: weakref.ref[Any]) -> None:
        self._call, self._module = call, module
        self._is_compiling = _compiling
        self._call_impl = _call_impl()
        self._backward_id = sys.modules["torch"]._C._current_graph_task_id

    def __call__(self, module: torch.nn.Module, *args: Any) -> None:
        if self._is_compiling():
            return
        if module is not self._module():
            self._leave(module)
            return
        if self._backward_id() != -1 or get_ident() in in_callback:
            return
        code = self._call_impl
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back  # to the call of the module itself
        while frame is not None and (frame := frame.f_back) is not None:
            if frame.f_code is code:
                return  # a root of its own, here part of another
        self._call(module, *args)

    def _leave(self, module: torch.nn.Module) -> None:
        original = self._module()
        for name in ("_forward_pre_hooks", "_forward_hooks"):
            hooks = getattr(module, name)
            if getattr(module, "_is_replica", False) or hooks is getattr(original, name, None):
                continue
            for key in [key for key, hook in list(hooks.items()) if hook is self]:
                hooks.pop(key, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _is_root_call(module: torch.nn.Module, enclosing: Iterator[object]) -> bool:
    import torch

    if getattr(module, "_is_replica", False) or torch._C._current_graph_task_id() != -1:
        return False
    return next(enclosing, None) is None


def _enclosing_modules(frame: FrameType) -> Iterator[object]:
    """The modules whose calls enclose the module call that ``frame`` serves, innermost first."""
    modules = _modules_on(frame)
    next(modules, None)
    return modules


def _modules_on(frame: FrameType | None) -> Iterator[object]:
    """The modules being called on this stack, innermost first."""
    code = _call_impl()
    while frame is not None:
        if frame.f_code is code:
            yield frame.f_locals.get("self")
        frame = frame.f_back


def _call_impl() -> CodeType:
    """What every call of a module runs."""
    from torch.nn import Module

    return Module._call_impl.__code__


def _compiling() -> bool:
    """A graph compiler is tracing: it takes this for a constant and leaves our hooks out.

    So is ``torch.jit.trace``, which sees what hooks ask of tensors.
    """
    import torch

    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
