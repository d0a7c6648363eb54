"""The call tap: watch calls of named functions, and of no others.

A watched function is replaced, where its name finds it, by a wrapper that calls the watchers
around it: in its module and in every imported module that holds the very same function, or in its
class. When the last watcher leaves, everything is put back as it was, also in modules that took
the wrapper by ``from … import`` meanwhile.

What to know:

- A reference taken before the watch began and kept elsewhere than in a module (a partial, an
  instance, a closure) still calls the bare function. One taken during the watch passes straight
  through to it once the watch has ended.
- A generator or coroutine function is watched where it begins to run, not while it runs.
- A function that an object took before the watch, also one a module of torch holds as a default
  (``TransformerEncoderLayer.activation``), cannot be pickled by name during it: the name then
  stands for the wrapper.
- ``torch.compile`` traces through the wrapper to the function itself; a call that the compiled
  graph has replaced is not made and not seen, but for one the compiler may make while tracing.
- ``step`` of an optimizer class is seen through torch's step hooks, since torch itself replaces
  that attribute: what it returned or raised is not known there (``after`` gets None, ``failed``
  is not called), and a subclass that overrides ``step`` is another function.
- ``__main__.f`` can be named before the script has defined it: the launcher adds a notice after
  each module-level statement that binds the name (:mod:`remora.tap.program`). Not so under ``-m``
  and for folders and archives, which runpy loads: there such a name is never found.
- A name in a module that is not imported yet waits for the import.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from remora.core.errors import UserError
from remora.tap.compiling import guard_the_table
from remora.tap.imports import ImportWatch
from remora.tap.names import Place, find
from remora.tap.steps import OptimizerSteps, Step
from remora.tap.subscription import Admit, Subscription
from remora.tap.wrap import After, Before, Failed, Watcher, together, unwatch, watch

_ABSENT = object()


def _nothing() -> None:
    """What is left to undo where nothing was done."""


class Calls:
    """Watch calls. ``job.calls`` is one of these."""

    def __init__(self, imports: ImportWatch, steps: OptimizerSteps, admit: Admit) -> None:
        self._imports, self._steps, self._admit = imports, steps, admit
        self._requests: list[_Request] = []
        self._unguard: Callable[[], None] = _nothing

    def together(self) -> AbstractContextManager[None]:
        """Make many watches, or end many, in one pass over the imported modules."""
        return together()

    def found(self, name: str) -> bool:
        """Whether every watch of ``name`` made here has met the function it stands for."""
        return not any(request.name == name and not request.met for request in self._requests)

    def watch(
        self,
        name: str,
        *,
        before: Before | None = None,
        after: After | None = None,
        failed: Failed | None = None,
    ) -> Subscription:
        """Be called around every call of ``name``, in every thread.

        ``before(args, kwargs)`` may return a token; ``after(token, result)`` and
        ``failed(token, error)`` are handed it, so that nested and threaded calls stay apart. A
        method's first argument is its instance or class. A callback's own calls are not watched.

        Raises:
            UnknownName: there is no such name, and nothing left to import could bring it.
            BadValue: it is a class, a property or something else that cannot be intercepted.
        """
        undo: list[Callable[[], None]] = []

        def remove(_: Subscription) -> None:
            while undo:
                undo.pop()()

        subscription = self._admit(f"in a callback on {name!r}", remove)
        if not subscription.live:
            return subscription
        request = _Request(self, name, Watcher(before, after, failed, subscription), undo)
        if not self._requests:
            self._unguard = guard_the_table(self._imports)
        self._requests.append(request)
        undo.append(lambda: self._left(request))
        try:
            request.resolve()
        except UserError:
            subscription.remove()
            raise
        return subscription

    def _left(self, request: _Request) -> None:
        self._requests.remove(request)
        if not self._requests:
            self._unguard()

    def sleep(self) -> None:
        """Let every watch made here rest: its function stays wrapped and is called straight.

        Calls that are under way end unheard of, unless that is after :meth:`wake`.
        """
        for request in self._requests:
            request.watcher.sleep()

    def wake(self) -> None:
        """End what :meth:`sleep` began. A call that began asleep ends with None for its token."""
        for request in self._requests:
            request.watcher.wake()

    def _install(self, place: Place, watcher: Watcher) -> Callable[[], None]:
        if _is_optimizer_step(place):
            return self._watch_step(place, watcher)
        site = watch(place, watcher)
        return lambda: unwatch(site, watcher)

    def _watch_step(self, place: Place, watcher: Watcher) -> Callable[[], None]:
        wanted = inspect.unwrap(getattr(place.owner, place.attribute))
        tokens: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

        def concerns(optimizer: Any) -> bool:
            return (
                issubclass(type(optimizer), place.owner)
                and inspect.unwrap(type(optimizer).step) is wanted
            )

        def before(step: Step) -> None:
            if concerns(step.optimizer):
                tokens[step.optimizer] = watcher.enter(step.args, step.kwargs)

        def after(step: Step) -> None:
            if (
                concerns(step.optimizer)
                and (token := tokens.pop(step.optimizer, _ABSENT)) is not _ABSENT
            ):
                watcher.leave(token, None)

        inner = self._steps.subscribe(self._imports, watcher.admit, after, before)
        return inner.remove


class _Request:
    """One name asked for, and its waiting until it exists."""

    def __init__(
        self, calls: Calls, name: str, watcher: Watcher, undo: list[Callable[[], None]]
    ) -> None:
        self._calls, self.name, self.watcher, self._undo = calls, name, watcher, undo
        self.met = False

    def resolve(self) -> None:
        found = find(self.name)
        if isinstance(found, Place):
            self.met = True
            self._undo.append(self._calls._install(found, self.watcher))
        elif found == "__main__":
            _MAIN.append(self)
            self._undo.append(lambda: _MAIN.remove(self) if self in _MAIN else None)
        else:
            stop = self._calls._imports.when_imported(found, self.retry)
            self._undo.append(stop)

    def retry(self) -> None:
        """Something the name waited for is here. A name still unknown fails its subscription."""
        if self in _MAIN:
            _MAIN.remove(self)
        if self.watcher.subscription.live:
            try:
                self.resolve()
            except Exception as error:
                self.watcher.subscription.fail(error)


_MAIN: list[_Request] = []
"""Requests for names that ``__main__`` has not defined yet."""


_EXPECTED: set[str] = set()
"""Top-level names of ``__main__`` that somebody will wait for by the time it binds them."""


def expect_in_main(functions: Iterable[str]) -> None:
    """Say before the program is read which functions of ``__main__`` will be watched later on."""
    _EXPECTED.update(name.split(".")[1] for name in functions if name.startswith("__main__."))


def awaited_in_main() -> set[str]:
    """The top-level names of ``__main__`` that somebody waits for, or will."""
    return _EXPECTED | {request.name.split(".")[1] for request in _MAIN}


def resolve_in_main() -> None:
    """``__main__`` has bound a name somebody may be waiting for."""
    for request in _MAIN[:]:
        request.retry()


def _is_optimizer_step(place: Place) -> bool:
    optimizers = sys.modules.get("torch.optim.optimizer")
    return (
        optimizers is not None
        and place.attribute == "step"
        and isinstance(place.owner, type)
        and issubclass(place.owner, optimizers.Optimizer)
    )
