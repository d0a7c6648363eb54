"""Outputs that stay on the server: what a program holds of them, and how they go into calls."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import torch

from remora.core.errors import ServerLost
from remora.remote.client.over_each import OverEach
from remora.remote.messages import Fetch, Free, Wanted
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.channel import Channel
from remora.remote.wire.tensors import DTYPES

_NUMBERS = itertools.count(1)
_DROPPED: OverEach[deque[int]] = OverEach(lambda channel: deque())
"""Over each connection the numbers of what nobody looks at any more; the next call frees them."""


class RemoteTensor:
    """An output that stayed on the server. Goes into calls of models on that server as it is.

    It is freed there when it is dropped here, with the next call; :meth:`free` does it at once.
    """

    def __init__(
        self, channel: Channel, number: int, dtype: torch.dtype, shape: tuple[int, ...]
    ) -> None:
        self.channel, self.number, self.dtype, self.shape = channel, number, dtype, shape

    def fetch(self) -> torch.Tensor:
        """Its elements, here.

        Raises:
            ServerLost: the server is gone, and it with it.
            Refused: it was freed.
        """
        tensor: torch.Tensor = self.channel.call(Fetch(self.number)).tensors[0]
        return tensor

    def free(self) -> None:
        """Free it on the server. May be called again."""
        number, self.number = self.number, 0
        if number:
            self.channel.call(Free((number,)))

    def __repr__(self) -> str:
        return f"RemoteTensor({str(self.dtype)[6:]} {[*self.shape]})"

    def __del__(self) -> None:
        if self.number:  # in whatever thread drops it: nothing may be waited for here
            _DROPPED.over(self.channel).append(self.number)


Held = Mapping[int, RemoteTensor]
"""By the id of the tensor that stands in for it."""


def stood_in(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any], Held]:
    """The arguments, with a tensor of its dtype and shape for each that is on the server."""
    leaves = (*args, *kwargs.values())
    if not any(type(leaf) is RemoteTensor for leaf in leaves):
        return args, kwargs, {}
    held: dict[int, RemoteTensor] = {}

    def stand_in(leaf: Any) -> Any:
        if type(leaf) is not RemoteTensor:
            return leaf
        tensor = torch.zeros((), dtype=leaf.dtype).expand(leaf.shape)
        held[id(tensor)] = leaf
        return tensor

    stand_ins = [stand_in(leaf) for leaf in leaves]
    named = dict(zip(kwargs, stand_ins[len(args) :], strict=True))
    return tuple(stand_ins[: len(args)]), named, held


def numbers_of(tensors: Iterable[torch.Tensor], held: Held, channel: Channel) -> tuple[int, ...]:
    """For each tensor the number that it is kept by over ``channel``, or 0 where it goes.

    Raises:
        ServerLost: one was kept over a connection that is not this one.
    """
    found = [held.get(id(tensor)) for tensor in tensors]
    if any(each is not None and each.channel is not channel for each in found):
        raise ServerLost("a tensor was kept on a server that is gone, or on another; make it again")
    return tuple([0 if each is None else each.number for each in found])


def dropped(channel: Channel) -> tuple[int, ...]:
    """What is to be freed over ``channel``; each is given once."""
    waiting = _DROPPED.over(channel)
    return tuple([waiting.popleft() for _ in range(len(waiting))])


def numbered(wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """``wanted``, with a number of its own for each handle."""
    return tuple(
        msgspec.structs.replace(each, count=next(_NUMBERS)) if each.kind == "handle" else each
        for each in wanted
    )


def gathered(wanted: Sequence[Wanted], arrived: Arrived, channel: Channel) -> list[Any]:
    """What came back and what was kept, in the order of the outputs."""
    came, kept = iter(arrived.tensors), iter(arrived.message.kept)
    found = [each for policy in wanted for each in _of_one(policy, came, kept, channel)]
    return [*found, *came]


def _of_one(
    policy: Wanted,
    came: Iterator[torch.Tensor],
    kept: Iterator[tuple[str, tuple[int, ...]]],
    channel: Channel,
) -> Iterator[Any]:
    if policy.kind == "handle":
        dtype, shape = next(kept)
        yield RemoteTensor(channel, policy.count, DTYPES[dtype], tuple(shape))
    elif policy.kind != "nothing":
        yield from itertools.islice(came, 2 if policy.kind == "top" else 1)
