"""A graph: what is computed from which values, as data that can be sent and checked.

Values lie in numbered slots. A graph says which slots its weights and inputs fill, then, node by
node, which operator fills which slots from which others, and which slots are its outputs.
"""

from __future__ import annotations

import msgspec

VERSION = 1
"""Goes up with any change that an older reader would misread."""


class Slot(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The value in a slot."""

    index: int


class Many(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """A list of arguments: sizes, or tensors to join."""

    items: tuple[Argument, ...]


class Named(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """What torch has an object for: ``dtype`` float32, ``device`` here, ``layout`` strided."""

    kind: str
    name: str


Argument = None | bool | int | float | str | Slot | Many | Named


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One operator applied once.

    ``operator`` is ``aten.<name>.<overload>``, or ``number.<name>`` for arithmetic on sizes. An
    operator that returns several values fills several slots; None stands for one nobody reads.
    """

    operator: str
    arguments: tuple[Argument, ...]
    keywords: dict[str, Argument]
    outputs: tuple[int | None, ...]
    unpacks: bool = False
    """Whether what the operator returns is a sequence that ``outputs`` are the items of."""


class Value(msgspec.Struct, frozen=True, array_like=True):
    """A tensor that goes in: its slot, its dtype, and its dims, -1 where any size will do."""

    slot: int
    dtype: str
    dims: tuple[int, ...]


class Weight(msgspec.Struct, frozen=True, array_like=True):
    """A tensor that stays: known by the digest of its contents, so it is sent once."""

    slot: int
    name: str
    digest: str
    dtype: str
    dims: tuple[int, ...]


class Graph(msgspec.Struct, frozen=True):
    """What a model computes. Holds no tensor; weights are named by their digests."""

    slots: int
    weights: tuple[Weight, ...]
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Argument, ...]
    version: int = VERSION


def slots_in(argument: Argument) -> list[int]:
    """The slots that ``argument`` reads, in order."""
    if isinstance(argument, Slot):
        return [argument.index]
    if isinstance(argument, Many):
        return [slot for item in argument.items for slot in slots_in(item)]
    return []


def slots_read(node: Node) -> list[int]:
    """The slots that ``node`` reads, in order."""
    arguments = (*node.arguments, *node.keywords.values())
    return [slot for argument in arguments for slot in slots_in(argument)]
