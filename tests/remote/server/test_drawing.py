"""Tokens that are drawn: from the right ones, in the right shares, and the same ones again."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.conftest import decoded_here, prompt

from remora.core.errors import BadValue
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.messages import Draw
from remora.remote.server.drawing import check, chosen
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server

_LOGITS = torch.log(torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]))


def drawn(draw: Draw, count: int = 4000) -> list[float]:
    tokens = torch.tensor([chosen(_LOGITS, draw, position) for position in range(count)])
    shares: list[float] = (torch.bincount(tokens, minlength=5) / count).tolist()
    return shares


@pytest.mark.parametrize(
    ("draw", "shares"),
    [
        (Draw(), [0.1, 0.4, 0.05, 0.3, 0.15]),
        (Draw(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        (Draw(top_p=0.69), [0, 4 / 7, 0, 3 / 7, 0]),
        (Draw(top_p=0.71), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        (Draw(temperature=0.5), [x * x / 0.285 for x in (0.1, 0.4, 0.05, 0.3, 0.15)]),
        (Draw(temperature=1e-3), [0, 1, 0, 0, 0]),
    ],
)
def test_each_is_drawn_as_often_as_it_should_be(draw: Draw, shares: list[float]) -> None:
    for found, expected in zip(drawn(draw), shares, strict=True):
        deviation = math.sqrt(expected * (1 - expected) / 4000)
        assert found == pytest.approx(expected, abs=4 * deviation + 1e-9)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    st.floats(0.01, 10),
    st.integers(0, 25),
    st.floats(0.01, 1),
    st.integers(),
)
def test_it_is_always_one_of_those_that_may_be_drawn(
    logits: list[float], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    row = torch.tensor(logits)
    token = chosen(row, Draw(temperature, top_k, top_p, seed), 3)
    least = row.sort(descending=True).values[: top_k or len(logits)].min()
    assert row[token] >= least


@pytest.mark.parametrize(
    "draw",
    [Draw(0.0), Draw(math.nan), Draw(math.inf), Draw(top_k=-1), Draw(top_p=0), Draw(top_p=2)],
)
def test_what_cannot_be_drawn_is_refused(draw: Draw) -> None:
    with pytest.raises(BadValue, match="is none; give"):
        check(draw)


def session(remote: RemoteServer, decoder: Placed) -> RemoteSession:
    return RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)


def test_a_seed_draws_the_same_whoever_decodes_beside_it(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    draw = Draw(temperature=2.0, seed=5)
    with session(remote, decoder) as alone:
        alone.prefill(prompt(6))
        first = list(alone.generate(12, draw=draw))
    with session(remote, decoder) as one, session(remote, decoder) as other:
        one.prefill(prompt(6))
        other.prefill(prompt(9, seed=1))
        streams = [one.generate(12, draw=draw), other.generate(12)]
        both = list(zip(*streams, strict=True))

    assert [mine for mine, _ in both] == first
    assert [other for _, other in both] == decoded_here(language_model, prompt(9, seed=1), 12)
    assert first != decoded_here(language_model, prompt(6), 12)


def test_another_seed_draws_others(remote: RemoteServer, decoder: Placed) -> None:
    texts = []
    with session(remote, decoder) as one:
        one.prefill(prompt(6))
        for seed in (0, 1):
            texts.append(list(one.generate(10, draw=Draw(temperature=2.0, seed=seed))))
            one.rewind(6)
    assert texts[0] != texts[1]


def test_what_is_drawn_goes_on_where_the_session_was_lost(decoder: Placed) -> None:
    draw = Draw(temperature=2.0, seed=7)
    with (
        Server("tcp://127.0.0.1:0", quotas=Quotas(lease_s=0.0)) as server,
        connect(server.address) as remote,
        session(remote, decoder) as one,
    ):
        one.prefill(prompt(5))
        whole = list(one.generate(10, draw=draw))
        one.rewind(5)
        parts = list(one.generate(5, draw=draw))
        server.house.sessions.drop_expired()
        parts += one.generate(5, draw=draw)

        assert parts == whole
        assert one.recoveries >= 1


def test_a_draw_that_cannot_be_done_leaves_the_session_as_it_was(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    with session(remote, decoder) as one:
        one.prefill(prompt(6))
        with pytest.raises(BadValue, match="top_p=3"):
            list(one.generate(3, draw=Draw(top_p=3)))
        assert list(one.generate(3)) == decoded_here(language_model, prompt(6), 3)
