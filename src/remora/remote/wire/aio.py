"""The client's end of a link on an event loop: as :mod:`channel`, with ``await``.

The loop itself reads the socket whenever there is something. What is small is sent at once; what is
large, or finds the socket full, is sent by a thread of the loop's executor.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import torch

from remora.core.errors import DeadlineExceeded, LinkLost, RemoteError, ServerLost
from remora.remote.wire.arrived import Arrived, Cancelled
from remora.remote.wire.channel import AsError, IsLast, never_an_error
from remora.remote.wire.frames import NUMBERS
from remora.remote.wire.link import Link
from remora.remote.wire.writer import SMALL_BYTES


class _Waiter:
    """One request that has not been answered in full."""

    def __init__(self, request: int) -> None:
        self.request = request
        self.arrived: deque[Arrived] = deque()
        self.told = asyncio.Event()


class AsyncChannel:
    """Requests over one link, from the tasks of one event loop; made while that runs.

    Args: as for :class:`Channel`.
    """

    def __init__(
        self,
        link: Link,
        *,
        is_last: IsLast,
        as_error: AsError = never_an_error,
        name: str = "the server",
    ) -> None:
        self.link, self._is_last, self._as_error, self._name = link, is_last, as_error, name
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[int, _Waiter] = {}
        self._lost: str | None = None
        self._request = 0
        link.reads_while_sending = False  # the loop reads, and would not hear of what a sender read
        self._loop.add_reader(link.fileno(), self._read)
        self._keeper = self._loop.create_task(self._keep_alive())

    async def call(
        self,
        message: Any,
        tensors: Sequence[torch.Tensor] = (),
        *,
        deadline_s: float | None = None,
    ) -> Arrived:
        """Send one message and wait for its one answer. Errors as for :meth:`Channel.call`."""
        waiter = self._waiter()
        try:
            until_ns = self._until_ns(deadline_s)
            await self._send(waiter, message, tensors, until_ns)
            return await self._answer(waiter, until_ns)
        except (DeadlineExceeded, asyncio.CancelledError):
            self.link.cancel(waiter.request)
            raise
        finally:
            self._waiters.pop(waiter.request, None)

    async def stream(
        self,
        message: Any,
        tensors: Sequence[torch.Tensor] = (),
        *,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[Arrived]:
        """Send one message and give its answers as they come, the last one too.

        It is sent when the first answer is asked for. Leaving early cancels the request.
        """
        waiter, done = self._waiter(), False
        try:
            until_ns = self._until_ns(deadline_s)
            await self._send(waiter, message, tensors, until_ns)
            while not done:
                arrived = await self._answer(waiter, until_ns)
                done = self._is_last(arrived.message)
                yield arrived
        except RemoteError as error:
            done = not isinstance(error, DeadlineExceeded)
            raise
        finally:
            self._waiters.pop(waiter.request, None)
            if not done:
                self.link.cancel(waiter.request)

    async def close(self) -> None:
        """End the connection; whoever waits gets ``ServerLost``. May be called again."""
        self._keeper.cancel()
        self._lose("the connection was closed here")
        await self._loop.run_in_executor(None, self.link.close)

    async def __aenter__(self) -> AsyncChannel:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _waiter(self) -> _Waiter:
        if self._lost is not None:
            raise self._server_lost(self._lost)
        self._request = self._request % (NUMBERS - 1) + 1
        while self._request in self._waiters:
            self._request = self._request % (NUMBERS - 1) + 1
        waiter = self._waiters[self._request] = _Waiter(self._request)
        return waiter

    def _until_ns(self, deadline_s: float | None) -> int | None:
        if deadline_s is None:
            return None
        return self.link.clock.wall_ns() + round(deadline_s * 1e9)

    async def _send(
        self,
        waiter: _Waiter,
        message: Any,
        tensors: Sequence[torch.Tensor],
        until_ns: int | None,
    ) -> None:
        send = functools.partial(
            self.link.send, waiter.request, message, tensors, until_ns=until_ns
        )
        try:
            size = sum(each.numel() * each.element_size() for each in tensors)
            if size <= SMALL_BYTES and self.link.can_send_now():
                send()
            else:
                await self._loop.run_in_executor(None, send)
        except LinkLost as error:
            self._lose(str(error))
            raise self._server_lost(str(error)) from error

    async def _answer(self, waiter: _Waiter, until_ns: int | None) -> Arrived:
        while not waiter.arrived:
            if self._lost is not None:
                raise self._server_lost(self._lost)
            await self._told(waiter, until_ns)
        arrived = waiter.arrived.popleft()
        error = self._as_error(arrived.message)
        if error is not None:
            raise error
        if isinstance(arrived.message, Cancelled):
            raise ServerLost(f"{self._name} gave up on the request before it had answered")
        return arrived

    async def _told(self, waiter: _Waiter, until_ns: int | None) -> None:
        waiter.told.clear()
        left_s = None
        if until_ns is not None:
            left_s = (until_ns - self.link.clock.wall_ns()) / 1e9
        try:
            async with asyncio.timeout(left_s):
                await waiter.told.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._name} has not answered within the time given; "
                "give more time with deadline_s, or ask for less"
            ) from None

    def _read(self) -> None:
        """Hand over all that is there; without waiting."""
        try:
            while (arrived := self.link.receive_within(0.0)) is not None:
                waiter = self._waiters.get(arrived.request)
                if waiter is not None:
                    waiter.arrived.append(arrived)
                    waiter.told.set()
        except LinkLost as error:
            self._lose(str(error))

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            self._loop.remove_reader(self.link.fileno())
        for waiter in self._waiters.values():
            waiter.told.set()

    def _server_lost(self, reason: str) -> ServerLost:
        return ServerLost(f"{self._name} is lost: {reason}; connect again")

    async def _keep_alive(self) -> None:
        """Ask for signs of life, and notice their absence."""
        while self._lost is None:
            await asyncio.sleep(self.link.patience.heartbeat_s / 4)
            self._read()
