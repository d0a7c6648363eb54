"""Messages for tests, and servers that speak them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import torch

from remora.core.errors import LinkLost, Refused
from remora.remote.wire.arrived import Cancelled, NoMemory
from remora.remote.wire.link import Link, Patience
from remora.remote.wire.tensors import DTYPES


class Echo(msgspec.Struct, frozen=True, tag="echo"):
    """Comes back as it is."""

    text: str


class Count(msgspec.Struct, frozen=True, tag="count"):
    """Is answered by numbers, each with the tensors that came."""

    until: int
    pause_s: float = 0.0


class Number(msgspec.Struct, frozen=True, tag="number"):
    number: int
    last: bool


class Fail(msgspec.Struct, frozen=True, tag="fail"):
    """Is answered by an error."""

    reason: str


class Silence(msgspec.Struct, frozen=True, tag="silence"):
    """Is never answered."""


Requests = Echo | Count | Fail | Silence
Replies = Echo | Number | Fail
QUICK = Patience(heartbeat_s=0.05, silence_s=0.3)


def is_last(message: object) -> bool:
    return not isinstance(message, Number) or message.last


def as_error(message: object) -> Exception | None:
    return Refused(message.reason) if isinstance(message, Fail) else None


class Server:
    """Answers requests; each count in a thread of its own, until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled: set[int] = set()
        self.links: list[Link] = []

    def serve(self, link: Link) -> None:
        self.links.append(link)
        threads = []
        with contextlib.suppress(LinkLost):
            while True:
                arrived = link.receive()
                message = arrived.message
                if isinstance(message, Cancelled):
                    self.cancelled.add(arrived.request)
                elif isinstance(message, NoMemory):
                    link.send(arrived.request, Fail("told: no memory"))
                elif isinstance(message, Count):
                    thread = threading.Thread(target=self._count, args=(link, arrived))
                    threads.append(thread)
                    thread.start()
                elif not isinstance(message, Silence):
                    link.send(arrived.request, message, arrived.tensors)
        link.close()
        for thread in threads:
            thread.join()

    def _count(self, link: Link, arrived: object) -> None:
        request, message, tensors = arrived[:3]  # type: ignore[index]
        with contextlib.suppress(LinkLost):
            for number in range(message.until):
                if request in self.cancelled:
                    return
                link.send(request, Number(number, number + 1 == message.until), tensors)
                time.sleep(message.pause_s)


@contextlib.contextmanager
def joined(
    sockets: tuple[socket.socket, socket.socket] | None = None, **options: object
) -> Iterator[tuple[Link, Link]]:
    """Two links over one pair of sockets: each sends and receives requests."""
    one, other = sockets or socket.socketpair()
    links = Link(one, Requests, **options), Link(other, Requests, **options)  # type: ignore[arg-type]
    try:
        yield links
    finally:
        for link in links:
            link.close()


def some_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Random bytes as a tensor; of bool, zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.Size(shape).numel())
    most = 2 if dtype is torch.bool else 256
    size = (count * dtype.itemsize,)
    raw = torch.randint(0, most, size, dtype=torch.uint8, generator=generator)
    return raw.view(dtype).view(shape)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in dtype, shape and every byte."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    flat = [each.contiguous().reshape(-1) for each in (one, other)]
    return not one.numel() or torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether ``holds`` becomes true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


ALL_DTYPES = list(DTYPES.values())
