"""A nested state as named tensors and one JSON document, and back, exactly.

The document is the nesting with every plain value in it. An object whose keys are text that does
not begin with ``$`` is a dict; any other object is a tag: ``{"$tensor": "model.weight"}``,
``{"$tuple": […]}``. Names come from where a tensor lies, so that they stay the same from one
checkpoint to the next. Nothing is copied on the way in, and nothing evaluated on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import torch

from remora.checkpoint.state.decoder import read_document
from remora.checkpoint.state.encoder import Encoder, Refused
from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.stored import restored
from remora.core.errors import CheckpointDamaged, StateUnsupported


@dataclass(frozen=True)
class Flat:
    """A state, flat.

    ``tensors`` by name in the order met, shared ones once, detached; where and how they lie in
    memory is as it was (any device, any strides), and their dtypes are those of
    :data:`~remora.checkpoint.state.stored.SAFETENSORS_NAMES`. ``document`` is compact JSON.
    """

    tensors: dict[str, torch.Tensor]
    document: bytes
    known: tuple[KnownDict, ...] = ()
    """Where the same of these as before come again, so do their tensors, in the same places."""

    @cached_property
    def fresh(self) -> dict[str, torch.Tensor]:
        """The tensors of none of ``known``."""
        names = self.tensors.keys() - {name for each in self.known for name in each.names}
        return {name: self.tensors[name] for name in sorted(names)}


def flatten(state: Mapping[str, Any], known: dict[str, KnownDict] | None = None) -> Flat:
    """Take ``state`` apart. Tensors are not copied: the result follows their values.

    Two tensors that are the same memory, seen the same way, get one name.

    Args:
        known: a dict that is kept from one flattening of a state to the next, empty at first:
            where tensors have stayed in their places, the next one is three times as fast.

    Raises:
        StateUnsupported: something in it is no plain value; the message says where it lies.
    """
    encoder = Encoder(known)
    try:
        nesting = encoder.mapping(state, "", 0)
    except Refused as refused:
        raise StateUnsupported(refused.sentence()) from None
    return Flat(encoder.tensors, msgspec.json.encode(nesting), tuple(encoder.taken))


def unflatten(document: bytes, tensor: Callable[[str], torch.Tensor]) -> dict[str, Any]:
    """Put a state together again from its document; ``tensor`` gives each tensor by its name.

    It is asked once a name, and gives the stored form: the dtype that :class:`Flat` has.

    Raises:
        CheckpointDamaged: ``document`` is not one that :func:`flatten` makes, or names a tensor
            for which ``tensor`` raises KeyError.
    """
    return read_document(document, lambda name, tag: tensor_of(tensor, name, tag))


def tensor_of(tensor: Callable[[str], torch.Tensor], name: str, tag: str | None) -> torch.Tensor:
    """What ``tensor`` gives for ``name``, in the dtype that ``tag`` says.

    Raises:
        CheckpointDamaged: it raises KeyError, or what it gives is no stored form of ``tag``.
    """
    try:
        found = tensor(name)
    except KeyError:
        raise CheckpointDamaged(f"the state names a tensor {name!r} that is not there") from None
    if tag is None:
        return found
    try:
        return restored(found, tag)
    except (ValueError, RuntimeError) as error:
        raise CheckpointDamaged(f"tensor {name!r}: {error}") from None
