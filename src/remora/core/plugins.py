"""Names that map to objects: ours, and those that other packages add by entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from remora.core.errors import Unavailable, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Built-in entries and the entry points of ``group``, loaded when asked for by name.

    A third party's entry that cannot be loaded spoils only itself: :meth:`get` says why.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, T],
        accept: Callable[[str, object], T],
    ) -> None:
        self.kind, self.group = kind, group
        self._builtin = dict(builtin)
        self._accept = accept

    @cached_property
    def _third_party(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self.group)
        return {point.name: point for point in found if point.name not in self._builtin}

    def names(self) -> list[str]:
        """Every valid name, built-in ones first, in the order they were registered."""
        return [*self._builtin, *sorted(self._third_party)]

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UnknownName: there is none.
            Unavailable: another package registered it, but it cannot be loaded.
        """
        if name in self._builtin:
            return self._builtin[name]
        if name not in self._third_party:
            raise UnknownName(self.kind, name, self.names())
        point = self._third_party[name]
        try:
            return self._accept(name, point.load())
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            raise Unavailable(
                f"{self.kind} {name!r} of package {package!r} cannot be loaded "
                f"({type(error).__name__}: {error}); mend or uninstall that package"
            ) from error
