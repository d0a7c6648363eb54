"""Functions that hand on to another what they are given, and return what it returns.

``torch.nn.ReLU.forward`` is one: all it does is to call ``torch.nn.functional.relu``. What is said
of how its result follows from what it is given is said of the other as well, so it is learned, and
checked at every call, of the other alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remora.check.calls import Call

_IDENTITY = ".identity"
_MIXED = ""
"""In a function's place: it does not always hand on to the same one."""


class HandingOn:
    """Told of every call that ends; says of each function to which one it hands on, if it does.

    It does if every call of it that returned made a call of the other with the first tensor it was
    given itself among what it gave, returned what that returned, and made no watched call after it.
    """

    def __init__(self) -> None:
        self._to: dict[str, str] = {}

    def end(self, call: Call) -> None:
        if call.failed:
            return
        if call.parent is not None:
            call.parent.notes[HandingOn] = call
        last = call.notes.pop(HandingOn, None)
        to = last.function if last is not None and _is_handed_on(call, last) else _MIXED
        if self._to.setdefault(call.function, to) != to:
            self._to[call.function] = _MIXED

    def found(self) -> dict[str, str]:
        """By function, the one it always hands on to, and that does not hand on itself."""
        return {function: self._last(to) for function, to in self._to.items() if to != _MIXED}

    def _last(self, function: str) -> str:
        passed = set[str]()
        while (to := self._to.get(function, _MIXED)) != _MIXED and function not in passed:
            passed.add(function)
            function = to
        return function


def _is_handed_on(call: Call, within: Call) -> bool:
    if call.function == within.function:
        return False
    given, passed = _identities(call.inputs), _identities(within.inputs)
    returned, gained = _identities(call.outputs), _identities(within.outputs)
    return bool(given) and given[0] in passed and returned == gained


def _identities(properties: Mapping[str, Any]) -> list[Any]:
    """Of the tensors among them; a module's does not count, nor any other thing's."""
    return [
        properties.get(f"{name[: -len('.dtype')]}{_IDENTITY}")
        for name in properties
        if name.endswith(".dtype")
    ]
