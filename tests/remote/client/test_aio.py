"""The client of an event loop gives what the other gives, and blocks nothing meanwhile."""

from __future__ import annotations

import asyncio

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt

from remora.core.errors import ServerLost
from remora.remote.client.aio import AsyncModel, AsyncServer, connect
from remora.remote.client.graphs import CapturedHere
from remora.remote.client.placed import Placed
from remora.remote.server.server import Server


def _knows(model: AsyncModel, decoder: Placed) -> None:
    """It need not be captured once more."""
    assert isinstance(model.model.graphs, CapturedHere)
    model.model.graphs.decoder = Placed(decoder.captured, decoder=True)


def test_sessions_decode_side_by_side(
    server: Server, decoder: Placed, language_model: torch.nn.Module
) -> None:
    async def decoded(there: AsyncServer, seed: int) -> list[int]:
        model = there.load(language_model)
        _knows(model, decoder)
        async with model.session() as session:
            await session.prefill(prompt(4 + seed, seed))
            return [token async for token in session.generate(10)]

    async def both() -> list[list[int]]:
        async with await connect(server.address) as there:
            return list(await asyncio.gather(decoded(there, 0), decoded(there, 1)))

    assert asyncio.run(both()) == [
        decoded_here(language_model, prompt(4 + seed, seed), 10) for seed in (0, 1)
    ]


def test_leaving_early_ends_it(
    server: Server, decoder: Placed, language_model: torch.nn.Module
) -> None:
    async def first() -> tuple[int, list[int]]:
        async with await connect(server.address) as there:
            model = there.load(language_model)
            _knows(model, decoder)
            async with model.session() as session:
                await session.prefill(prompt(4))
                tokens = session.generate(200)
                token = await anext(tokens)
                await tokens.aclose()  # type: ignore[attr-defined]
                return token, [more async for more in session.generate(2)]

    token, more = asyncio.run(first())
    assert [token, *more] == decoded_here(language_model, prompt(4), 3)


def test_a_model_is_called() -> None:
    model = torch.nn.Linear(3, 2).eval()
    inputs = torch.randn(4, 3)

    async def called() -> torch.Tensor:
        with Server("tcp://127.0.0.1:0") as server:
            async with await connect(server.address) as there:
                output: torch.Tensor = await there.load(model)(inputs)
                return output

    with torch.no_grad():
        assert torch.equal(asyncio.run(called()), model(inputs))


def test_nobody_there_is_told() -> None:
    with pytest.raises(ServerLost, match="cannot be reached"):
        asyncio.run(connect("tcp://127.0.0.1:9"))
