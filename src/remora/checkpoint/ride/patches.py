"""Put a function in another's place, and put the other back exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from remora.tap.wrap import replace_in_modules

_ABSENT = object()


@dataclass(eq=False)
class _Layer:
    """One replacement; those of several services may lie on each other."""

    ours: Any
    before: Any
    """What comes back when this is the topmost one to go."""


_layers: dict[tuple[int, str], list[_Layer]] = {}


def _lay(key: tuple[int, str], layer: _Layer) -> None:
    _layers.setdefault(key, []).append(layer)


def _take_out(key: tuple[int, str], layer: _Layer) -> bool:
    """Whether ``layer`` was the topmost; the one above it, if not, goes back to what it had."""
    layers = _layers[key]
    place = layers.index(layer)
    topmost = place == len(layers) - 1
    if not topmost:
        layers[place + 1].before = layer.before
    layers.remove(layer)
    if not layers:
        del _layers[key]
    return topmost


class Patches:
    """Functions replaced in classes and modules, until :meth:`remove`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def attribute(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by ``make(what it was)``, in this class or module alone."""
        layer = _Layer(make(getattr(owner, name)), vars(owner).get(name, _ABSENT))
        key = id(owner), name
        _lay(key, layer)
        setattr(owner, name, layer.ours)

        def undo() -> None:
            if not _take_out(key, layer) or vars(owner).get(name) is not layer.ours:
                return  # somebody has put something else there, which may call ours
            if layer.before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, layer.before)

        self._undo.append(undo)

    def function(self, module: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``module.name`` there and wherever an imported module holds the very same."""
        before = getattr(module, name)
        layer, key = _Layer(make(before), before), (id(module), name)
        _lay(key, layer)
        replace_in_modules(before, layer.ours)

        def undo() -> None:
            if _take_out(key, layer):
                replace_in_modules(layer.ours, layer.before)

        self._undo.append(undo)

    def add(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` as well when all is put back."""
        self._undo.append(undo)

    def remove(self) -> None:
        """Put everything back, the last first. Calling it twice does no harm."""
        while self._undo:
            self._undo.pop()()
