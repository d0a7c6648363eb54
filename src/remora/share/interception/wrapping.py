"""Methods of torch's classes, replaced for as long as a hook stands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Around = Callable[..., Any]
"""Called with the method, its object and its arguments; gives what the method is to give."""


class Wrapped:
    """``around`` instead of ``owner.name``, until it is undone.

    Raises:
        AttributeError: there is no such method.
    """

    def __init__(self, owner: type, name: str, around: Around) -> None:
        original = getattr(owner, name)
        self._owner, self._name = owner, name
        self._before = vars(owner).get(name)
        self._is_undone = False

        @functools.wraps(original)
        def wrapper(instance: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_undone:
                return original(instance, *args, **kwargs)
            return around(original, instance, *args, **kwargs)

        self._wrapper = wrapper
        setattr(owner, name, wrapper)

    def undo(self) -> None:
        """The method is as it was. If others have replaced it since, ours only calls it."""
        self._is_undone = True
        if vars(self._owner).get(self._name) is not self._wrapper:
            return
        if self._before is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
