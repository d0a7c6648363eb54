"""One variable: where it is found, what it is called, and its properties now.

=====================  ========================================================================
property               of a variable, as conditions see it
=====================  ========================================================================
variable.kind          parameter, gradient, buffer, optimizer state
variable.owner         class of the module (optimizer) it belongs to; None where none has it
variable.attribute     its name in the module, or in the optimizer's state
variable.dtype         ``torch.float32``
variable.dimensions    how many
variable.requires_grad of the parameter
variable.has_grad      whether the parameter's gradient is not None
variable.trained       some optimizer has it (its parameter)
variable.own           it is of the module, optimizer or tensors that the call is made on
variable.still         the learning rate it (its parameter) is trained with is 0
variable.training      mode of the module, for buffers
=====================  ========================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from remora.check.conditions import Properties
from remora.check.observation import BUFFER, GRADIENT, PARAMETER, STATE
from remora.check.observe.places import Entry, GroupEntry, StateEntry

if TYPE_CHECKING:
    from remora.check.observe.variables import Variables

_OF_PARAMETERS = (
    "variable.own", "variable.requires_grad", "variable.has_grad", "variable.trained",
    "variable.still",
)  # fmt: skip
_STATE = {
    PARAMETER: _OF_PARAMETERS,
    GRADIENT: _OF_PARAMETERS,
    BUFFER: ("variable.own", "variable.training"),
    STATE: ("variable.own", "variable.has_grad", "variable.still"),
}
"""The properties that may be others at every call."""


class Variable:
    """One variable.

    ``get`` gives its tensor now, for a gradient that of the parameter; None if it is gone.
    """

    __slots__ = (
        "_about", "_base", "_known", "fixed", "get", "in_use", "is_one_of_several_optimizers",
        "kind", "name", "owner", "reading",
    )  # fmt: skip

    def __init__(self, about: Variables, kind: str, name: str, get: Entry) -> None:
        self._about, self.kind, self.name, self.get = about, kind, name, get
        self.owner = None if isinstance(get, GroupEntry) else get.owner
        owner = self.owner() if self.owner is not None else None
        self.in_use = owner is not None and id(owner) in about.in_use
        self.is_one_of_several_optimizers = about.are_shared_out
        """Then whose it is matters to whoever looks at it."""
        tensor = get()
        self._base = (
            ("variable.kind", kind),
            ("variable.owner", type(owner).__name__ if owner is not None else None),
            ("variable.attribute", None if isinstance(get, GroupEntry) else str(get.key)),
            ("variable.dtype", str(tensor.dtype) if tensor is not None else None),
            ("variable.dimensions", _dimensions(tensor)),
        )
        self.fixed = about.shared(self._base)
        """The properties that are the same at every call."""
        self._known: dict[tuple[Any, ...], Properties] = {}
        self.reading: Any = None
        """How its elements are read, for those who read it at every step."""

    def value(self) -> Any:
        """The tensor now, or None: there is none, or its owner is gone."""
        tensor = self.get()
        return tensor.grad if tensor is not None and self.kind == GRADIENT else tensor

    def properties(self, tensor: Any, own: Collection[int] | None) -> Properties:
        """Equal properties are one object, for every variable that has them."""
        state = self.state(tensor, own)
        known = self._known.get(state)
        if known is None:
            known = self._known[state] = self._about.shared(
                (*self._base, *_named(self.kind, state))
            )
        return known

    def state(self, tensor: Any, own: Collection[int] | None) -> tuple[Any, ...]:
        """The properties that may be others at every call, without their names."""
        about, key = self._about, id(tensor)
        owner = self.owner() if self.owner is not None else None
        is_own = None if own is None else key in own or id(owner) in own
        if self.kind in (PARAMETER, GRADIENT):
            return (
                is_own, tensor.requires_grad, tensor.grad is not None, key in about.trained,
                key in about.still,
            )  # fmt: skip
        if self.kind == BUFFER:
            return is_own, owner.training if owner is not None else None
        of = self.get.parameter() if isinstance(self.get, StateEntry) else None
        return is_own, of is not None and of.grad is not None, id(of) in about.still


def _dimensions(tensor: Any) -> int | None:
    try:
        return int(tensor.dim())
    except (ValueError, AttributeError):  # none, or a lazy one
        return None


def _named(kind: str, state: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    return zip(_STATE[kind], state, strict=True)
