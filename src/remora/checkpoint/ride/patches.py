"""Put a function in another's place, and put the other back exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remora.tap.wrap import replace_in_modules

_ABSENT = object()


class Patches:
    """Functions replaced in classes and modules, until :meth:`remove`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def attribute(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by ``make(what it was)``, in this class or module alone."""
        before = vars(owner).get(name, _ABSENT)
        ours = make(getattr(owner, name))
        setattr(owner, name, ours)

        def undo() -> None:
            if vars(owner).get(name) is not ours:
                return  # somebody has put something else there, which may call ours
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

        self._undo.append(undo)

    def function(self, module: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``module.name`` there and wherever an imported module holds the very same."""
        before = getattr(module, name)
        ours = make(before)
        replace_in_modules(before, ours)
        self._undo.append(lambda: replace_in_modules(ours, before))

    def add(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` as well when all is put back."""
        self._undo.append(undo)

    def remove(self) -> None:
        """Put everything back, the last first. Calling it twice does no harm."""
        while self._undo:
            self._undo.pop()()
