"""One call of a watched function, as relations see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


class Call:
    """A call that has begun; once it has ended, ``outputs`` or ``failed`` is set.

    ``inputs`` and ``outputs`` hold the properties (:mod:`remora.check.values`) that were asked
    for, by parameter name: ``input.dtype``. Those of the result begin with ``result``.
    """

    __slots__ = (
        "context", "failed", "function", "inputs", "notes", "order", "outputs", "parent",
        "step", "thread",
    )  # fmt: skip

    def __init__(
        self,
        function: str,
        order: int,
        thread: int,
        parent: Call | None,
        step: int,
        inputs: Mapping[str, Any] = NOTHING,
        context: Mapping[str, Any] = NOTHING,
    ) -> None:
        self.function = function
        self.order = order
        """A number that grows with every call in the run, by when it began."""
        self.thread = thread
        self.parent = parent
        """The watched call that this one was made within, in the same thread."""
        self.step = step
        self.inputs = inputs
        self.context = context
        """``phase``, ``grad``, ``autocast``, ``rank``, ``context.…``: where it was made."""
        self.outputs: Mapping[str, Any] = NOTHING
        self.failed = False
        self.notes: dict[object, Any] | None = None
        """What those who follow the call noted at its begin, each under its own key."""

    def properties(self) -> dict[str, Any]:
        """Inputs and context in one: what a condition is judged on."""
        return {**self.context, **self.inputs}

    def note(self, key: object, value: Any) -> None:
        if self.notes is None:
            self.notes = {}
        self.notes[key] = value

    def ancestors(self) -> list[Call]:
        """The calls it lies in, innermost first."""
        found, call = [], self.parent
        while call is not None:
            found.append(call)
            call = call.parent
        return found

    def __repr__(self) -> str:
        return f"<{self.function} in step {self.step}>"
