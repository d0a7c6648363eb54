"""One call of a watched function, as relations see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Known(dict[str, Any]):
    """Properties that are the same object wherever they are equal; nobody writes to them.

    A verdict on properties that are all known can be kept by their ids and need not be found again.
    """

    __slots__ = ()


NOTHING: Mapping[str, Any] = Known()

OPTIMIZER_STEP = "torch.optim.Optimizer.step"
"""A step of any optimizer, whatever its class: what is learned of Adam is checked of SGD."""
MODEL_FORWARD = "torch.nn.Module.forward"
"""A forward of a root module: one that no other module called."""

CLOSURE = "closure.kind"
"""An input of an optimizer's step that is given a closure, and then calls what it needs itself."""


class Call(msgspec.Struct, eq=False):
    """A call that has begun; once it has ended, ``outputs`` or ``failed`` is set.

    ``inputs`` and ``outputs`` hold the properties (:mod:`remora.check.values`) that were asked
    for, by parameter name: ``input.dtype``. Those of the result begin with ``result``.
    """

    function: str
    order: int
    """A number that grows with every call in the run, by when it began."""
    thread: int
    parent: Call | None
    """The watched call that this one was made within, in the same thread."""
    step: int
    inputs: Mapping[str, Any] = NOTHING
    context: Mapping[str, Any] = NOTHING
    """``phase``, ``grad``, ``autocast``, ``rank``, ``context.…``: where it was made."""
    outputs: Mapping[str, Any] = NOTHING
    failed: bool = False
    notes: dict[object, Any] = {}
    """What those who follow the call noted at its begin, each under its own key."""

    def properties(self) -> dict[str, Any]:
        """Inputs and context in one: what a condition is judged on."""
        return {**self.context, **self.inputs}

    def ancestors(self) -> list[Call]:
        """The calls it lies in, innermost first."""
        found, call = [], self.parent
        while call is not None:
            found.append(call)
            call = call.parent
        return found

    def __repr__(self) -> str:
        return f"<{self.function} in step {self.step}>"
