"""Act when a module has been imported, without importing it.

Remora must not import torch before the program does: a program may set thread counts or visible
devices first. So a tap that needs a module waits for it through a finder on ``sys.meta_path``,
which is there only while something is awaited and gives the module its own loader back.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

from remora.tap.subscription import Admit, Subscription

Waiting = Callable[[], object]


class Imports:
    """Be told of imports. ``job.imports`` is one of these."""

    def __init__(self, watch: ImportWatch, admit: Admit) -> None:
        self._watch, self._admit = watch, admit

    def subscribe(self, name: str, then: Waiting) -> Subscription:
        """Call ``then`` once: now if module ``name`` is imported, else as soon as it has run."""
        stops: list[Callable[[], None]] = []

        def remove(_: Subscription) -> None:
            while stops:
                stops.pop()()

        def tell() -> None:
            if subscription.live:
                try:
                    then()
                except Exception as error:
                    subscription.fail(error)

        subscription = self._admit(f"when {name!r} was imported", remove)
        if subscription.live:
            stops.append(self._watch.when_imported(name, tell))
        return subscription


class ImportWatch:
    """Calls back once after each awaited module has run."""

    def __init__(self) -> None:
        self._awaited: dict[str, list[Waiting]] = {}
        self._lock = threading.RLock()

    def when_imported(self, name: str, then: Waiting) -> Callable[[], None]:
        """Call ``then`` now if module ``name`` is imported, else as soon as it is.

        Returns what stops the waiting; calling that later, or twice, does no harm.
        """
        if name in sys.modules:
            then()
            return lambda: None
        with self._lock:
            self._awaited.setdefault(name, []).append(then)
            if not any(finder is self for finder in sys.meta_path):
                sys.meta_path.insert(0, self)
        return lambda: self._forget(name, then)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._awaited:
            return None
        # Those in front of us have been asked already; another watch behind us may wait as well.
        for finder in sys.meta_path[_position(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = cast("Any", _Notifying(spec.loader, self))
                return spec
        return None

    def imported(self, name: str) -> None:
        """Module ``name`` has run."""
        with self._lock:
            waiting = self._awaited.pop(name, [])
            self._leave_if_idle()
        for then in waiting:
            then()

    def _forget(self, name: str, then: Waiting) -> None:
        with self._lock:
            waiting = [one for one in self._awaited.pop(name, []) if one is not then]
            if waiting:
                self._awaited[name] = waiting
            self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        # The list is replaced in one piece where it can be: an import in another thread may be
        # walking it.
        if not self._awaited and any(finder is self for finder in sys.meta_path):
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]


def _position(finder: object) -> int:
    return next((i for i, one in enumerate(sys.meta_path) if one is finder), -1)


class _Notifying:
    """A module's own loader, and word to the watch once it is done."""

    def __init__(self, loader: Any, watch: ImportWatch) -> None:
        self._loader, self._watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._watch.imported(module.__name__)


def _pass_for_import_machinery(function: Any) -> None:
    """Let Python drop this function's frame from tracebacks as it drops the import system's own."""
    machinery = sys.modules["_frozen_importlib_external"].__dict__["_path_join"].__code__
    function.__code__ = function.__code__.replace(co_filename=machinery.co_filename)


_pass_for_import_machinery(_Notifying.exec_module)
