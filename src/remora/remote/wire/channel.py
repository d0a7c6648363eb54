"""The client's end of a link: many threads, many requests at once.

There is no thread that reads. Of the threads that wait for answers one leads: it reads the socket,
and hands to the others what is theirs. When it has its own answer another takes over. A lone caller
so never waits for a second thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch

from remora.core.errors import DeadlineExceeded, LinkLost, Refused, RemoteError, ServerLost
from remora.remote.wire.arrived import Arrived, Cancelled, NoMemory, Sent
from remora.remote.wire.frames import NUMBERS
from remora.remote.wire.link import Link

FOREVER_S = 3600.0
IsLast = Callable[[Any], bool]
"""Whether a message is the last of its stream."""
AsError = Callable[[Any], Exception | None]
"""The error that a message stands for, or None."""


def never_an_error(message: Any) -> Exception | None:
    """No message stands for an error."""
    return None


class Waiter:
    """One request that has not been answered in full."""

    def __init__(self, lock: threading.Lock, request: int) -> None:
        self.request = request
        self.arrived: deque[Arrived] = deque()
        self.told = threading.Condition(lock)
        """When something has arrived, or this one is to lead."""
        self.waits = False


class Channel:
    """Requests over one link.

    Args:
        is_last: whether a message ends its stream.
        as_error: the exception for a message that stands for one.
        name: the server, as errors call it.
    """

    def __init__(
        self,
        link: Link,
        *,
        is_last: IsLast,
        as_error: AsError = never_an_error,
        name: str = "the server",
    ) -> None:
        self.link, self._is_last, self._as_error, self.name = link, is_last, as_error, name
        self._lock = threading.Lock()
        self._waiters: dict[int, Waiter] = {}
        self._led = False
        """Whether a thread reads the socket."""
        self._lost: str | None = None
        self._request = 0
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, name="remora-wire", daemon=True)
        self._keeper.start()

    def call(
        self,
        message: Any,
        tensors: Sequence[torch.Tensor] = (),
        *,
        deadline_s: float | None = None,
        on_sent: Callable[[Sent], object] | None = None,
    ) -> Arrived:
        """Send one message and wait for its one answer; ``on_sent`` is told when it has gone.

        Raises:
            ServerLost: the connection ended, or the server has been silent for too long.
            DeadlineExceeded: no answer within ``deadline_s``; the request has been cancelled.
            Refused: there is no memory here for the tensors of the answer.
            BadValue: the message or a tensor cannot be sent. Nothing was sent.
        """
        waiter = self._waiter()
        try:
            until_ns = self._send(waiter, message, tensors, deadline_s, on_sent)
            return self._answer(waiter, until_ns)
        except (DeadlineExceeded, KeyboardInterrupt):
            self.link.cancel(waiter.request)
            raise
        finally:
            self._forget(waiter)

    def stream(
        self,
        message: Any,
        tensors: Sequence[torch.Tensor] = (),
        *,
        deadline_s: float | None = None,
    ) -> Iterator[Arrived]:
        """Send one message now; the iterator gives its answers as they come, the last one too.

        Leaving early cancels the request. ``deadline_s`` is for the whole stream. Errors as for
        :meth:`call`.
        """
        waiter = self._waiter()
        try:
            until_ns = self._send(waiter, message, tensors, deadline_s)
        except BaseException:
            self._forget(waiter)
            self.link.cancel(waiter.request)
            raise
        answers = self._answers(waiter, until_ns)
        next(answers)  # from here on leaving it cancels the request, also before the first answer
        return answers

    @property
    def ended(self) -> bool:
        """Whether the connection is known to be lost or closed."""
        return self._lost is not None

    @property
    def outstanding(self) -> int:
        """Requests that have not been answered in full."""
        return len(self._waiters)

    def close(self) -> None:
        """End the connection; whoever waits gets ``ServerLost``. May be called again."""
        self._closing.set()
        self._lose("the connection was closed here")
        self.link.close()
        if threading.current_thread() is not self._keeper:
            self._keeper.join()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answers(self, waiter: Waiter, until_ns: int | None) -> Generator[Arrived]:
        done = False
        try:
            yield None  # type: ignore[misc]  # taken by stream() itself
            while not done:
                arrived = self._answer(waiter, until_ns)
                done = self._is_last(arrived.message)
                yield arrived
        except RemoteError as error:
            done = not isinstance(error, DeadlineExceeded)
            raise
        finally:
            self._forget(waiter)
            if not done:
                self.link.cancel(waiter.request)

    def _waiter(self) -> Waiter:
        with self._lock:
            if self._lost is not None:
                raise self._server_lost(self._lost)
            self._request = self._request % (NUMBERS - 1) + 1
            while self._request in self._waiters:
                self._request = self._request % (NUMBERS - 1) + 1
            waiter = self._waiters[self._request] = Waiter(self._lock, self._request)
            return waiter

    def _send(
        self,
        waiter: Waiter,
        message: Any,
        tensors: Sequence[torch.Tensor],
        deadline_s: float | None,
        on_sent: Callable[[Sent], object] | None = None,
    ) -> int | None:
        until_ns = None
        if deadline_s is not None:
            until_ns = self.link.clock.wall_ns() + round(deadline_s * 1e9)
        try:
            sent = self.link.send(waiter.request, message, tensors, until_ns=until_ns)
        except LinkLost as error:
            raise self._server_lost(self._lose(str(error))) from error
        if on_sent is not None:
            on_sent(sent)
        return until_ns

    def _answer(self, waiter: Waiter, until_ns: int | None) -> Arrived:
        arrived = self._next(waiter, until_ns)
        error = self._as_error(arrived.message)
        if error is not None:
            raise error
        if isinstance(arrived.message, Cancelled):
            raise ServerLost(f"{self.name} gave up on the request before it had answered")
        if isinstance(arrived.message, NoMemory):
            raise Refused(arrived.message.at("here"))
        return arrived

    def _next(self, waiter: Waiter, until_ns: int | None) -> Arrived:
        with self._lock:
            waiter.waits = True
            try:
                while not waiter.arrived:
                    left_s = self._left_s(until_ns)
                    if self._led:
                        waiter.told.wait(left_s)
                    else:
                        self._lead(waiter, left_s)
            finally:
                waiter.waits = False
                self._hand_over()
            return waiter.arrived.popleft()

    def _left_s(self, until_ns: int | None) -> float:
        """Seconds that a waiter still has."""
        if self._lost is not None:
            raise self._server_lost(self._lost)
        if until_ns is None:
            return FOREVER_S
        left_ns = until_ns - self.link.clock.wall_ns()
        if left_ns <= 0:
            raise DeadlineExceeded(
                f"{self.name} has not answered within the time given; "
                "give more time with deadline_s, or ask for less"
            )
        return left_ns / 1e9

    def _lead(self, waiter: Waiter | None, timeout_s: float) -> None:
        """Read once for everybody; the lock is held on entry and on return, not in between."""
        self._led = True
        self._lock.release()
        arrived, lost = None, None
        try:
            arrived = self.link.receive_within(timeout_s)
        except LinkLost as error:
            lost = str(error)
        finally:
            self._lock.acquire()
            self._led = False
        if lost is not None:
            self._lose_locked(lost)
        if arrived is not None and (owner := self._waiters.get(arrived.request)) is not None:
            owner.arrived.append(arrived)
            if owner is not waiter:
                owner.told.notify()

    def _hand_over(self) -> None:
        """Let one of those that wait lead, if nobody does."""
        if not self._led:
            for waiter in self._waiters.values():
                if waiter.waits and not waiter.arrived:
                    waiter.told.notify()
                    return

    def _forget(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.pop(waiter.request, None)

    def _lose(self, reason: str) -> str:
        with self._lock:
            return self._lose_locked(reason)

    def _lose_locked(self, reason: str) -> str:
        self._lost = self._lost or reason
        for waiter in self._waiters.values():
            waiter.told.notify()
        return self._lost

    def _server_lost(self, reason: str) -> ServerLost:
        return ServerLost(f"{self.name} is lost: {reason}; connect again")

    def _keep_alive(self) -> None:
        """While nobody waits, answer the server's heartbeats and notice its end."""
        while not self._closing.wait(self.link.patience.heartbeat_s / 4):
            with self._lock:
                if self._lost is not None:
                    return
                if not self._led:
                    self._lead(None, 0.0)
                    self._hand_over()
