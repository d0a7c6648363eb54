"""What one end of a link accepts from the other. All of it is checked before memory is taken."""

from __future__ import annotations

import math

import msgspec

from remora.core.units import format_bytes


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a peer may ask for. Bytes, unless the name says otherwise.

    The defaults fit the weights of a model of some billions of parameters, sent tensor by tensor.
    """

    head_bytes: int = 2**20
    """The encoded message and what it says of its tensors."""
    tensors: int = 16_384
    """Tensors in one message."""
    dimensions: int = 16
    """Dimensions of one tensor."""
    tensor_bytes: int = 8 * 2**30
    message_bytes: int = 16 * 2**30
    """All tensors of one message."""
    in_flight_bytes: int = 32 * 2**30
    """Messages of which a part has arrived, on one connection."""
    open: int = 256
    """The number of such messages."""

    def refuses_shape(self, shape: tuple[int, ...], item_bytes: int) -> str | None:
        """Why a tensor of ``shape`` is not accepted, or None."""
        if len(shape) > self.dimensions:
            return f"a tensor has {len(shape)} dimensions; at most {self.dimensions} are accepted"
        # Strides are products of dimensions, also where another dimension is 0.
        if any(size < 0 for size in shape) or math.prod(size or 1 for size in shape) >= 2**60:
            return f"a tensor has the shape {list(shape)}, which no memory holds"
        size = math.prod(shape) * item_bytes
        if size > self.tensor_bytes:
            return (
                f"a tensor has {format_bytes(size)}; "
                f"at most {format_bytes(self.tensor_bytes)} are accepted"
            )
        return None

    def refuses_sizes(self, sizes: list[int]) -> str | None:
        """Why a message with tensors of ``sizes`` bytes is not accepted, or None."""
        if len(sizes) <= self.tensors and sum(sizes) <= self.message_bytes:
            return None
        if len(sizes) > self.tensors:
            return f"a message has {len(sizes)} tensors; at most {self.tensors} are accepted"
        return (
            f"a message has {format_bytes(sum(sizes))} of tensors; "
            f"at most {format_bytes(self.message_bytes)} are accepted"
        )
