"""Attributes of a framework's objects, replaced for the length of one training, then put back."""

from __future__ import annotations

from typing import Any, Self

_ABSENT = object()


class Replaced:
    """Remembers what was there: on the instance itself, where a class gives its methods."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set ``owner.name``, which must exist: a framework without it is one we do not know.

        Raises:
            AttributeError: it does not.
        """
        getattr(owner, name)
        self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def put_back(self) -> None:
        """The last first. Calling it twice does no harm."""
        while self._before:
            owner, name, value = self._before.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()
