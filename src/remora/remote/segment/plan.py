"""A plan: what a segment does, apart from the memory it does it to.

A segment works on memories, numbered in the order in which it first meets them. What an operator is
given is a memory and how it is looked at: dtype, sizes, strides, offset. So views need no operator,
and two tensors that share memory here share it there.

Floating-point arguments that no shape depends on, such as a step size that changes with every
step, are none of a plan's: they come with the segment, numbered as memories are. So a training is
one plan, and not one a step.

The stream says what is done, in order: the number of a signature, then the memories that its
tensors lie in, then its scalars. Memories that it makes take the next numbers. ``FREE`` and a
memory: nobody needs that one any more.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from remora.remote.graph.nodes import Named

VERSION = 2
"""Goes up with any change that an older reader would misread."""
FREE = -1
PUT = "remora.put"
"""Makes a memory out of the next tensor that came with the segment."""
WEIGHT = "remora.weight"
"""Makes a memory that holds a weight, by its digest."""
FETCH = "remora.fetch"
"""Sends a tensor back."""


class Made(msgspec.Struct, frozen=True, array_like=True):
    """A tensor that an operator makes, in memory of its own."""

    dtype: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Seen(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """A tensor that an operator is given: how it looks at its memory. All but bytes in elements."""

    dtype: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


class Scalar(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A floating-point number that comes with the segment."""


class Several(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """A list of arguments."""

    items: tuple[Part, ...]


Part = None | bool | int | float | str | Seen | Scalar | Several | Named
"""An argument of an operator."""


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """An operator and all it is given, but for the memories. None of ``made`` is no tensor."""

    operator: str
    arguments: tuple[Part, ...] = ()
    keywords: tuple[tuple[str, Part], ...] = ()
    made: tuple[Made | None, ...] = ()


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """What a segment does."""

    signatures: tuple[Signature, ...]
    stream: tuple[int, ...]
    inputs: tuple[int, ...]
    """Bytes of each memory that was there before, in the order in which they are met."""
    scalars: int = 0
    """How many scalars come with a segment."""
    version: int = VERSION


def given_in(signature: Signature) -> list[Seen | Scalar]:
    """The tensors and scalars it is given, in order."""
    keywords = (part for _, part in signature.keywords)
    return [each for part in (*signature.arguments, *keywords) for each in given_in_part(part)]


def given_in_part(part: Part) -> Iterator[Seen | Scalar]:
    """The tensors and scalars in ``part``, in order."""
    if isinstance(part, Seen | Scalar):
        yield part
    elif isinstance(part, Several):
        for item in part.items:
            yield from given_in_part(item)


def seen_in(signature: Signature) -> list[Seen]:
    """The tensors it is given, in the order in which the stream names their memories."""
    return [each for each in given_in(signature) if isinstance(each, Seen)]


def scalars_in(signature: Signature) -> int:
    """How many scalars it is given, which the stream names behind the memories."""
    return sum(isinstance(each, Scalar) for each in given_in(signature))


def extent(sizes: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> int:
    """Elements of memory that a tensor reaches to."""
    if 0 in sizes:
        return 0
    reach = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return offset + reach + 1
