"""The same client for programs with an event loop: every wait is awaited, in a thread beside it.

The loop is never blocked. It is the same client, so what is lost is made again here as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import torch

from remora.remote.client.model import RemoteModel
from remora.remote.client.server import RemoteServer
from remora.remote.client.server import connect as connect_and_wait
from remora.remote.client.session import Ids, RemoteSession
from remora.remote.messages import Draw

_END = object()


class AsyncServer:
    """A connection to a server; an async context manager that closes it."""

    def __init__(self, server: RemoteServer) -> None:
        self.server = server

    def load(self, model: torch.nn.Module, *, deadline_s: float | None = None) -> AsyncModel:
        """As :meth:`RemoteServer.load`."""
        return AsyncModel(self.server.load(model, deadline_s=deadline_s))

    async def close(self) -> None:
        """End the connection. May be called again."""
        await asyncio.to_thread(self.server.close)

    async def __aenter__(self) -> AsyncServer:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class AsyncModel:
    """A model on a server: ``await model(x)``."""

    def __init__(self, model: RemoteModel) -> None:
        self.model = model

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As calling a :class:`RemoteModel`. A call that is cancelled ends on the server itself."""
        return await asyncio.to_thread(self.model, *args, **kwargs)

    def session(self, **options: Any) -> AsyncSession:
        """``async with model.session() as session``; as :meth:`RemoteModel.session`."""
        return AsyncSession(self.model, options)


class AsyncSession:
    """A session with a language model. Opened when it is entered, closed when it is left."""

    def __init__(self, model: RemoteModel, options: Mapping[str, Any]) -> None:
        self._model, self._options = model, options
        self._session: RemoteSession | None = None

    async def __aenter__(self) -> AsyncSession:
        self._session = await asyncio.to_thread(self._model.session, **self._options)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self._opened.close)

    async def prefill(self, ids: Ids) -> None:
        """As :meth:`RemoteSession.prefill`."""
        await asyncio.to_thread(self._opened.prefill, ids)

    async def generate(
        self, count: int, *, stop: Sequence[int] = (), draw: Draw | None = None
    ) -> AsyncIterator[int]:
        """As :meth:`RemoteSession.generate`: ``async for token in session.generate(64)``."""
        tokens = self._opened.generate(count, stop=stop, draw=draw)
        try:
            while (token := await asyncio.to_thread(next, tokens, _END)) is not _END:
                yield token  # type: ignore[misc]
        finally:
            await asyncio.shield(asyncio.to_thread(_left, tokens))

    @property
    def _opened(self) -> RemoteSession:
        if self._session is None:
            raise RuntimeError("enter the session first: async with model.session() as session")
        return self._session


def _left(tokens: Iterator[int]) -> None:
    """Leaving a generator early tells the server."""
    close = getattr(tokens, "close", None)
    if close is not None:
        close()


async def connect(address: str, **options: Any) -> AsyncServer:
    """As :func:`remora.connect`, awaited."""
    return AsyncServer(await asyncio.to_thread(connect_and_wait, address, **options))
