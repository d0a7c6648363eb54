"""The channel on an event loop does what the one of threads does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
import torch
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import (
    ALL_DTYPES,
    QUICK,
    Count,
    Echo,
    Fail,
    Silence,
    as_error,
    is_last,
    same,
    some_tensor,
    within,
)  # fmt: skip

from remora.core.errors import BadValue, DeadlineExceeded, Refused, ServerLost
from remora.remote.wire.aio import AsyncChannel

KINDS = ("tcp", "unix", "tls", "shared")
Serve = Callable[..., Served]


@asynccontextmanager
async def channel_to(served: Served, **options: object) -> AsyncIterator[AsyncChannel]:
    link = served.link(**options)
    async with AsyncChannel(link, is_last=is_last, as_error=as_error) as channel:
        yield channel


def run(main: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("kind", KINDS)
def test_calls_and_streams_are_answered(served: Serve, kind: str) -> None:
    async def main() -> None:
        async with channel_to(served(kind)) as channel:
            for count in (3, 30_000, 3_000_000):
                dtypes = ALL_DTYPES[::5]
                tensors = [some_tensor(dtype, (count // dtype.itemsize,)) for dtype in dtypes]
                arrived = await channel.call(Echo("x"), tensors)
                assert all(map(same, arrived.tensors, tensors))
            answers = channel.stream(Count(5), [torch.arange(40_000)])
            assert [each.message.number async for each in answers] == [0, 1, 2, 3, 4]

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_many_tasks_share_one_connection(served: Serve, kind: str) -> None:
    async def main() -> None:
        async with channel_to(served(kind)) as channel:

            async def ask(number: int) -> None:
                size = (5, 50_000, 400_000)[number % 3]
                if number % 4:
                    answer = await channel.call(Echo(str(number)), [torch.full((size,), number)])
                    assert answer.message.text == str(number)
                    assert bool((answer.tensors[0] == number).all())
                else:
                    stream = channel.stream(Count(4))
                    assert [each.message.number async for each in stream] == [0, 1, 2, 3]

            await asyncio.gather(*(ask(number) for number in range(40)))

    run(main)


def test_errors_are_raised(served: Serve) -> None:
    async def main() -> None:
        async with channel_to(served()) as channel:
            with pytest.raises(Refused, match="too busy"):
                await channel.call(Fail("too busy"))
            with pytest.raises(BadValue):
                await channel.call(Echo("x"), [torch.zeros(3).to_sparse()])
            assert not channel._waiters

    run(main)


def test_a_call_out_of_time_is_cancelled(served: Serve) -> None:
    async def main() -> None:
        made = served()
        async with channel_to(made) as channel:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await channel.call(Silence(), deadline_s=0.1)
            assert 0.1 <= time.monotonic() - began < 1
            assert within(5, lambda: 1 in made.server.cancelled)
            assert (await channel.call(Echo("on"), deadline_s=5)).message == Echo("on")

    run(main)


def test_cancelling_a_task_cancels_its_request(served: Serve) -> None:
    async def main() -> None:
        made = served()
        async with channel_to(made) as channel:
            task = asyncio.create_task(channel.call(Silence()))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert within(5, lambda: 1 in made.server.cancelled)

    run(main)


def test_leaving_a_stream_early_cancels_it(served: Serve) -> None:
    async def main() -> None:
        made = served()
        async with channel_to(made) as channel:
            answers = channel.stream(Count(10_000, pause_s=0.001))
            async for _ in answers:
                break
            await answers.aclose()
            assert within(5, lambda: 1 in made.server.cancelled)

    run(main)


def test_every_task_hears_that_the_server_is_lost(served: Serve) -> None:
    async def main() -> None:
        made = served()
        async with channel_to(made) as channel:
            tasks = [asyncio.create_task(channel.call(Silence())) for _ in range(5)]
            await asyncio.sleep(0.05)
            made.server.links[0].close()
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(error, ServerLost)
            with pytest.raises(ServerLost):
                await channel.call(Echo("x"))

    run(main)


def test_an_idle_client_answers_heartbeats(served: Serve) -> None:
    async def main() -> None:
        async with channel_to(served(patience=QUICK), patience=QUICK) as channel:
            await asyncio.sleep(1)
            assert (await channel.call(Echo("here"))).message == Echo("here")

    run(main)
