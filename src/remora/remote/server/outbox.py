"""Answers on their way to one client, sent by a thread of its own: computing never waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import torch

from remora.core.errors import RemoteError
from remora.remote.messages import Reply
from remora.remote.wire.link import Link

Made = Callable[[], Reply]
"""Makes a reply when its turn comes, so that it can tell of all that was sent before."""
_Answer = tuple[int, Reply | Made, Sequence[torch.Tensor]]


class Outbox:
    """Sends over one link, in order, until it is closed.

    A client that reads too slowly is let go: its link is closed when more than ``most_bytes`` of
    tensors, or ``most`` answers, wait for it.
    """

    def __init__(self, link: Link, *, most: int = 10_000, most_bytes: int = 4 * 2**30) -> None:
        self._link, self._most, self._most_bytes = link, most, most_bytes
        self._waiting: deque[_Answer] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._send, name="remora-outbox", daemon=True)
        self._thread.start()

    def put(self, request: int, reply: Reply | Made, tensors: Sequence[torch.Tensor] = ()) -> None:
        """Send it when its turn comes. Never blocks; after the end it does nothing."""
        with self._changed:
            if self._closed:
                return
            self._waiting.append((request, reply, tensors))
            self._bytes += sum(tensor.nbytes for tensor in tensors)
            if len(self._waiting) > self._most or self._bytes > self._most_bytes:
                self._closed = True
            self._changed.notify()

    def close(self) -> None:
        """Send what waits no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _send(self) -> None:
        while (answer := self._next()) is not None:
            request, reply, tensors = answer
            try:
                self._link.send(request, reply() if callable(reply) else reply, tensors)
            except RemoteError:
                break
        with self._changed:
            self._closed = True
            self._waiting.clear()
        self._link.close()

    def _next(self) -> _Answer | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            answer = self._waiting.popleft()
            self._bytes -= sum(tensor.nbytes for tensor in answer[2])
            return answer
