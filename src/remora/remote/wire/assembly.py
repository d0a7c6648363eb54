"""Messages of which a part has arrived, put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import torch

from remora.core.clock import Clock, now_of
from remora.core.errors import WireDamaged
from remora.core.units import format_bytes
from remora.remote.wire.arrived import Arrived, NoMemory
from remora.remote.wire.frames import HEADER_BYTES, Frame, Kind
from remora.remote.wire.free_memory import free_bytes
from remora.remote.wire.limits import Limits
from remora.remote.wire.span import Span
from remora.remote.wire.tensors import INLINE, Allocate, Spec, check, tensor_in, without_memory

_SKIPPED = memoryview(bytearray(2**20))
"""What has no memory of its own is read into this, whoever it is for, and by nobody again."""


class Places(Protocol):
    """Where tensors lie that do not travel in a body."""

    def take(self, place: int, size: int) -> np.ndarray:
        """The ``size`` bytes at ``place``, as the receiver may keep them.

        Raises:
            WireDamaged: there is no such place.
            MemoryError: there is none to keep them in; the place has been given back.
        """
        ...


class NoPlaces:
    """All tensors travel in bodies."""

    def take(self, place: int, size: int) -> np.ndarray:
        raise WireDamaged(f"{size} bytes at {place} of a memory that is not shared were announced")


@dataclass
class Incoming:
    """One message on its way."""

    request: int
    message: Any
    tensors: list[torch.Tensor]
    rest: Span
    """Memory of its tensors that is still to be filled."""
    begun_ns: int
    wire_bytes: int
    shared_bytes: int
    body_bytes: int

    def arrived(self, ended_ns: int) -> Arrived:
        return Arrived(
            self.request, self.message, self.tensors, self.begun_ns, ended_ns, self.wire_bytes,
            self.shared_bytes,
        )  # fmt: skip


def wrong_body(kind: Kind, body_bytes: int, inline: int) -> WireDamaged:
    """The error for a frame whose body is not of the size of its tensors."""
    return WireDamaged(
        f"a {kind.name.lower()} frame holds {body_bytes} bytes of tensors that have {inline}"
    )


def inline_bytes(specs: list[Spec], sizes: list[int]) -> int:
    """The bytes of tensors that a message has in its body."""
    return sum([size for spec, size in zip(specs, sizes, strict=True) if spec.place == INLINE])


class Assembly:
    """The messages of one direction that are on their way, at most one a request.

    Args:
        union: the type of the messages: a union of tagged structs.
        allocate: gives memory for a tensor's bytes.
    """

    def __init__(
        self, union: Any, limits: Limits, clock: Clock, allocate: Allocate, places: Places
    ) -> None:
        self._decode = msgspec.msgpack.Decoder(tuple[union, list[Spec]]).decode
        self._limits, self._now = limits, now_of(clock)
        self._allocate, self._places = allocate, places
        self._open: dict[int, Incoming] = {}
        self._bytes = 0

    @property
    def in_flight_bytes(self) -> int:
        """The memory of all messages of which a part is still to come."""
        return self._bytes

    def begin(self, frame: Frame, head: memoryview) -> Incoming:
        """A message begins, whole or in parts: its memory, after every check.

        Raises:
            WireDamaged: it is none, or larger than the limits.
        """
        message, specs = self._decoded(frame.request, head)
        sizes = check(specs, self._limits)
        inline = inline_bytes(specs, sizes)
        self._check_body(frame.kind, frame.body_bytes, inline)
        incoming = self._allocated(frame, message, specs, sizes, inline)
        if frame.kind is Kind.BEGIN:
            self._open[frame.request] = incoming
            self._bytes += inline
        return incoming

    def whole(self, request: int, head: memoryview, body: memoryview) -> Arrived:
        """A message of which all is there already: what is small needs no steps between.

        Raises:
            WireDamaged: it is none, or larger than the limits.
        """
        begun_ns = self._now()
        message, specs = self._decoded(request, head)
        sizes = check(specs, self._limits)
        inline = inline_bytes(specs, sizes)
        if len(body) != inline:
            raise wrong_body(Kind.WHOLE, len(body), inline)
        tensors, at, shared_bytes = [], 0, 0
        for spec, size in zip(specs, sizes, strict=True):
            if spec.place == INLINE:
                tensors.append(tensor_in(bytearray(body[at : at + size]), spec))
                at += size
            else:
                tensors.append(self._placed(spec, size))
                shared_bytes += size
        wire_bytes = HEADER_BYTES + len(head) + len(body)
        message = held(message, tensors)
        return Arrived(request, message, tensors, begun_ns, self._now(), wire_bytes, shared_bytes)

    def more(self, frame: Frame) -> Incoming:
        """The message that a data frame belongs to.

        Raises:
            WireDamaged: none is open, or the frame holds more than it lacks.
        """
        incoming = self._open.get(frame.request)
        if incoming is None:
            raise WireDamaged(f"data of request {frame.request} arrived, which began no message")
        if not 0 < frame.body_bytes <= incoming.rest.left:
            raise WireDamaged(
                f"{frame.body_bytes} bytes arrived for a message that lacks {incoming.rest.left}"
            )
        incoming.wire_bytes += HEADER_BYTES + frame.body_bytes
        return incoming

    def end(self, incoming: Incoming) -> Arrived | None:
        """What has arrived if ``incoming`` is whole now."""
        if incoming.rest.left:
            return None
        self.drop(incoming.request)
        return incoming.arrived(self._now())

    def drop(self, request: int) -> None:
        """Forget what has come of ``request``, if anything has."""
        incoming = self._open.pop(request, None)
        if incoming is not None:
            self._bytes -= incoming.body_bytes

    def _decoded(self, request: int, head: memoryview) -> tuple[Any, list[Spec]]:
        if request in self._open:
            raise WireDamaged(f"request {request} began a message within another")
        try:
            return self._decode(head)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise WireDamaged(f"a message arrived that cannot be read: {error}") from None

    def _check_body(self, kind: Kind, body_bytes: int, inline: int) -> None:
        if (body_bytes != inline) if kind is Kind.WHOLE else (body_bytes >= inline):
            raise wrong_body(kind, body_bytes, inline)
        if kind is Kind.BEGIN and len(self._open) >= self._limits.open:
            raise WireDamaged(f"more than {self._limits.open} messages are on their way")
        if self._bytes + inline > self._limits.in_flight_bytes:
            raise WireDamaged(
                f"messages of {format_bytes(self._bytes + inline)} are on their way; at most "
                f"{format_bytes(self._limits.in_flight_bytes)} are accepted"
            )

    def _allocated(
        self, frame: Frame, message: Any, specs: list[Spec], sizes: list[int], inline: int
    ) -> Incoming:
        begun_ns = self._now()
        tensors, shared_bytes = list[torch.Tensor](), 0
        memories = list[memoryview]()
        for spec, size in zip(specs, sizes, strict=True):
            if spec.place == INLINE:
                tensors.append(self._inline(spec, size, memories))
            else:
                tensors.append(self._placed(spec, size))
                shared_bytes += size
        wire_bytes = HEADER_BYTES + frame.head_bytes + frame.body_bytes
        message = held(message, tensors)
        return Incoming(
            frame.request, message, tensors, Span(memories), begun_ns, wire_bytes, shared_bytes,
            inline,
        )  # fmt: skip

    def _inline(self, spec: Spec, size: int, memories: list[memoryview]) -> torch.Tensor:
        """A tensor whose bytes are to be read, and into ``memories`` where to."""
        try:
            memory = self._allocate(size)
        except MemoryError:
            memories += _skipping(size)
            return without_memory(spec)
        memories.append(memory.data)
        return tensor_in(memory, spec)

    def _placed(self, spec: Spec, size: int) -> torch.Tensor:
        try:
            return tensor_in(self._places.take(spec.place, size), spec)
        except MemoryError:
            return without_memory(spec)


def held(message: Any, tensors: Iterable[torch.Tensor]) -> Any:
    """``message``, or what arrives in its place where not all ``tensors`` found memory."""
    wanted_bytes = sum([tensor.nbytes for tensor in tensors if tensor.is_meta])
    return NoMemory(message, wanted_bytes, free_bytes()) if wanted_bytes else message


def _skipping(size: int) -> Iterator[memoryview]:
    """``size`` bytes to read into, of the same memory again and again."""
    for at in range(0, size, len(_SKIPPED)):
        yield _SKIPPED[: size - at]
