"""Sessions of models that are told of their tokens in other ways, and how long they may be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.remote.graph.language import decoder_of, language_model, sound
from tests.remote.graph.test_decoder import decoded_by

from remora.core.errors import BadValue, Refused
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer
from remora.remote.client.session import RemoteSession


def generated_together(sessions: Sequence[RemoteSession], count: int) -> list[list[int]]:
    """Tokens of all: they decode at the same time, so that they lie in one batch."""
    streams = [session.generate(count) for session in sessions]
    tokens: list[list[int]] = [[] for _ in streams]
    for _ in range(count):
        for given, stream in zip(tokens, streams, strict=True):
            given.append(next(stream))
    return tokens


def session_with(remote: RemoteServer, name: str) -> RemoteSession:
    decoder = decoder_of(name)[1]
    placed = Placed(decoder.captured, decoder=True, positions=decoder.positions)
    return RemoteSession(remote, placed, deadline_s=60)


def test_a_model_that_takes_the_other_kind_of_mask(remote: RemoteServer) -> None:
    bloom = decoder_of("bloom")[0]
    texts = [[5, 3, 8, 9, 30, 2, 2, 17, 8], [7, 7]]
    with session_with(remote, "bloom") as long, session_with(remote, "bloom") as short:
        long.prefill(texts[0])
        short.prefill(texts[1])
        found = generated_together([long, short], 6)
    for text, tokens in zip(texts, found, strict=True):
        assert tokens == decoded_by(bloom, torch.tensor([text]), 6)[0].tolist()


@pytest.mark.slow
def test_a_model_with_an_encoder(remote: RemoteServer) -> None:
    whisper = language_model("whisper")
    model = remote.load(whisper)
    with model.session(sound(0)) as one, model.session(sound(1)) as other:
        for session in (one, other):
            session.prefill([1, 5])
        found = generated_together([one, other], 5)
        held = remote.counts()["sessions_bytes"]
    for seed, tokens in enumerate(found):
        text = torch.tensor([[1, 5]])
        assert tokens == decoded_by(whisper, text, 5, input_features=sound(seed))[0].tolist()
    assert held > 2 * 4 * 16 * 32 * 4  # what was heard is counted
    with pytest.raises(BadValue, match="writes down what it hears; call session"):
        model.session()
    with pytest.raises(Refused, match="a session is one sequence"):
        model.session(torch.cat([sound(0), sound(1)]))


def test_a_session_ends_where_the_model_has_no_more_positions(remote: RemoteServer) -> None:
    gpt2, text = decoder_of("gpt2")[0], list(range(20))  # of 32 positions
    with session_with(remote, "gpt2") as ending, session_with(remote, "gpt2") as going_on:
        ending.prefill([*text, *text[:9]])
        going_on.prefill(text[:3])
        together = [ending.generate(10), going_on.generate(10)]
        found: list[list[int]] = [[], []]
        for _ in range(4):  # 29 read, 3 more, and the token behind the last
            for given, stream in zip(found, together, strict=True):
                given.append(next(stream))
        with pytest.raises(Refused, match="reads 32 tokens at most: the session has 32"):
            next(together[0])
        found[1] += together[1]
    assert found[1] == decoded_by(gpt2, torch.tensor([text[:3]]), 10)[0].tolist()
    assert found[0] == decoded_by(gpt2, torch.tensor([[*text, *text[:9]]]), 4)[0].tolist()


def test_a_prompt_that_is_too_long_is_refused_before_any_of_it_is_read(
    remote: RemoteServer,
) -> None:
    with session_with(remote, "gpt2") as session:
        with pytest.raises(Refused, match="the session has 0, and 33 more are to come"):
            session.prefill([1] * 33)
        assert remote.counts()["sessions_bytes"] == 0
        session.prefill([1] * 32)
