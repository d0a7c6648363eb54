"""Sessions of models that are told of their tokens in other ways, and how long they may be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.remote.graph.language import decoder_of, language_model, sound
from tests.remote.graph.made import CPU
from tests.remote.graph.test_decoder import decoded_by

from remora.core.errors import BadValue, Refused
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer
from remora.remote.client.session import RemoteSession
from remora.remote.graph.decoder import Decoder
from remora.remote.graph.plan import Planner
from remora.remote.graph.program import Program
from remora.remote.server.decoding import Batch, read
from remora.remote.server.models import Model
from remora.remote.server.session import Session


class Together:
    """Sessions of one model that decode in one batch, without a server around them."""

    def __init__(self, decoder: Decoder, texts: Sequence[Sequence[int]]) -> None:
        graph = decoder.captured.graph
        program = Program(graph, decoder.captured.tensors, CPU)
        self.model = Model("", graph, program, Planner(graph, 2**30), decoder=True)
        self.sessions = [self.read(text) for text in texts]

    def context(self, text: Sequence[int]) -> Sequence[torch.Tensor]:
        return ()

    def read(self, text: Sequence[int]) -> Session:
        session = Session("", self, self.model, self.model.no_state(), self.context(text))
        session.unread = int(read(session, torch.tensor([list(text)])).argmax())
        return session

    def decode(self, count: int) -> list[list[int]]:
        batch, tokens = Batch(self.model), [[session.unread or 0] for session in self.sessions]
        while len(tokens[0]) < count:
            for given, session, token in zip(
                tokens, self.sessions, batch.step(self.sessions).argmax(-1).tolist(), strict=True
            ):
                session.unread = token
                given.append(token)
        return tokens


class Listeners(Together):
    """As many as there are texts, each of which has heard something else."""

    def __init__(self, decoder: Decoder, texts: Sequence[Sequence[int]]) -> None:
        assert decoder.listening is not None
        self.listening = Program(decoder.listening.graph, decoder.listening.tensors, CPU)
        self.heard = 0
        super().__init__(decoder, texts)

    def context(self, text: Sequence[int]) -> Sequence[torch.Tensor]:
        self.heard += 1
        return self.listening.run([sound(self.heard)])


TEXTS = [[5, 3, 8, 9, 30, 2, 2, 17, 8], [7, 7], [1, 2, 3, 4]]


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
def test_sequences_of_different_lengths_decode_together_as_if_alone(name: str) -> None:
    model, decoder = decoder_of(name)
    found = Together(decoder, TEXTS).decode(8)
    for text, tokens in zip(TEXTS, found, strict=True):
        assert tokens == decoded_by(model, torch.tensor([text]), 8)[0].tolist()


@pytest.mark.slow
def test_so_do_those_that_have_heard_different_things() -> None:
    model, decoder = decoder_of("whisper")
    found = Listeners(decoder, TEXTS).decode(8)
    for heard, (text, tokens) in enumerate(zip(TEXTS, found, strict=True), 1):
        expected = decoded_by(model, torch.tensor([text]), 8, input_features=sound(heard))
        assert tokens == expected[0].tolist()


def test_a_step_that_needs_more_than_a_call_is_given_is_refused() -> None:
    together = Together(decoder_of("gpt2")[1], TEXTS[:1])
    together.model.planner = Planner(together.model.graph, 2**14)
    with pytest.raises(Refused, match=r"at most 16\.0 KiB are given"):
        together.decode(3)


def session_with(remote: RemoteServer, name: str) -> RemoteSession:
    decoder = decoder_of(name)[1]
    placed = Placed(decoder.captured, decoder=True, positions=decoder.positions)
    return RemoteSession(remote, placed, deadline_s=60)


@pytest.mark.slow
def test_a_model_with_an_encoder(remote: RemoteServer) -> None:
    whisper = language_model("whisper")
    model = remote.load(whisper)
    with model.session(sound(0)):
        before = remote.counted
    with model.session(sound(0)) as one, model.session(sound(1)) as other:
        opened = remote.counted
        assert opened.bytes_received - before.bytes_received < 2000  # what was heard stays there
        for session in (one, other):
            session.prefill([1, 5])
        found = [list(session.generate(5)) for session in (one, other)]
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
