"""What is recorded of an operator, by what it was given: worked out once for each kind of call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from remora.core.errors import CannotCapture
from remora.remote.graph.nodes import Named
from remora.remote.graph.operators import NAMED, name_of
from remora.remote.segment.guards import check_shapes
from remora.remote.segment.operators import Operator
from remora.remote.segment.plan import Made, Part, Scalar, Seen, Several, Signature
from remora.remote.segment.shapes import (
    NAME_OF_DTYPE,
    ShapesUnknown,
    dense_bytes,
    made_by,
    makes_out_of_nothing,
    row_by_row,
)

MOST = 100_000
"""Kinds of calls that are remembered; beyond it all are forgotten."""
NOT_SENT = frozenset({"device", "layout", "pin_memory", "non_blocking"})
"""Keywords that say where a tensor is to be, which is known."""


class Output:
    """A tensor that an operator makes, as the program is given it."""

    __slots__ = ("bytes", "dtype", "sizes", "strides")

    def __init__(self, made: Made) -> None:
        self.sizes, self.bytes = made.sizes, dense_bytes(made)
        self.dtype: torch.dtype = NAMED["dtype"][made.dtype]
        self.strides = None if made.strides == row_by_row(made.sizes) else made.strides


class Entry:
    """A kind of call."""

    __slots__ = ("index", "outputs", "signature")

    def __init__(self, index: int, signature: Signature) -> None:
        self.index, self.signature = index, signature
        self.outputs = [None if made is None else Output(made) for made in signature.made]


class Entries:
    """All that are known, by what tells kinds of calls apart."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Entry] = {}
        self._count = 0

    def get(self, key: tuple[Any, ...]) -> Entry | None:
        """The entry for ``key``, if it is known."""
        return self._known.get(key)

    def special(self, name: str, *arguments: Part, made: tuple[Made, ...] = ()) -> Entry:
        """What is no operator of torch."""
        key = (name, repr(arguments), made)
        return self._known.get(key) or self.add(key, Signature(name, arguments, (), made))

    def of(
        self,
        key: tuple[Any, ...],
        operator: Operator,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Entry:
        """A new entry for a call of ``operator``.

        Raises:
            CannotCapture: an argument that cannot be sent, or outputs whose shapes depend on data.
            Exception: what torch raises where the arguments do not go together.
        """
        arguments = tuple(_part(value, operator) for value in args)
        keywords = tuple(
            (name, _part(value, operator))
            for name, value in kwargs.items()
            if name not in NOT_SENT and value is not None
        )
        bare = Signature(operator.name, arguments, keywords)
        check_shapes(operator, bare)
        try:
            made = made_by(operator, bare)
        except ShapesUnknown as error:
            raise CannotCapture(f"{error}; {NEXT}") from error
        if makes_out_of_nothing(operator) and made[0] is not None:
            # The server's default may be another.
            keywords = (*((n, p) for n, p in keywords if n != "dtype"), _dtype(made[0]))
        return self.add(key, Signature(operator.name, arguments, keywords, made))

    def add(self, key: tuple[Any, ...], signature: Signature) -> Entry:
        """Remember ``signature`` under ``key``."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._count += 1
        entry = self._known[key] = Entry(self._count, signature)
        return entry


NEXT = "bring its tensors back with .cpu(), do this step there, and put the result with .to(device)"


def _dtype(made: Made) -> tuple[str, Part]:
    return "dtype", Named("dtype", made.dtype)


def seen(tensor: torch.Tensor) -> Seen:
    """How ``tensor`` looks at its memory."""
    dtype = NAME_OF_DTYPE.get(tensor.dtype)
    if dtype is None:
        raise CannotCapture(f"a server does not compute with {tensor.dtype}; convert it first")
    if tensor.is_conj() or tensor.is_neg():
        raise CannotCapture("a tensor is to be conjugated or negated when it is read; " + NEXT)
    if tensor.device.type != "remora":
        return Seen(dtype, tuple(tensor.shape), row_by_row(tensor.shape))
    return Seen(dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))


def _part(value: Any, operator: Operator) -> Part:
    if isinstance(value, torch.Tensor):
        return seen(value)
    if type(value) is float and operator.takes_scalars:
        return Scalar()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return Several(tuple(_part(item, operator) for item in value))
    named = name_of(value)
    if named is None:
        raise CannotCapture(
            f"{operator.name} is given a {type(value).__name__}, which is not sent; {NEXT}"
        )
    return Named(*named)
