"""Language models' steps as graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.remote.graph.language import decoder_of, language_model, sound
from tests.remote.graph.made import CPU, sent

from remora.core.errors import CannotCapture
from remora.remote.graph.decoder import (
    _ADDED,
    Decoder,
    capture_decoder,
    context_in,
    no_state,
    state_in,
)
from remora.remote.graph.masks import fits, mask_for
from remora.remote.graph.nodes import Slot
from remora.remote.graph.program import Program

FOUR = [
    "gpt2",
    "bloom",
    pytest.param("opt", marks=pytest.mark.slow),
    pytest.param("llama", marks=pytest.mark.slow),
]


class Sequences:
    """Several texts of one length that are read and go on together, by the graph alone."""

    def __init__(self, decoder: Decoder, texts: torch.Tensor, context: list[torch.Tensor]) -> None:
        graph = sent(decoder.captured.graph)
        self.graph, self.context, self.held = graph, context, 0
        self.program = Program(graph, decoder.captured.tensors, CPU)
        self.state = [tensor.repeat(len(texts), 1, 1, 1) for tensor in no_state(state_in(graph))]
        self.logits = self.read(texts)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        count, new = tokens.shape
        positions = torch.arange(self.held, self.held + new).expand(count, new)
        pads = torch.zeros(count, dtype=torch.int64)
        mask = mask_for(self.graph.inputs[2], new, self.held, pads, CPU)
        inputs = [tokens, positions, mask, *self.context, *self.state]
        logits, *self.state = self.program.run(inputs)
        self.held += new
        last: torch.Tensor = logits[:, -1]
        return last

    def decode(self, count: int) -> torch.Tensor:
        tokens = []
        for _ in range(count):
            tokens.append(self.logits.argmax(-1, keepdim=True))
            self.logits = self.read(tokens[-1])
        return torch.cat(tokens, 1)


@torch.no_grad()
def decoded_by(model: Any, texts: torch.Tensor, count: int, **heard: torch.Tensor) -> torch.Tensor:
    """What the model decodes without a cache: the whole text is read for every token."""
    begun, name = texts.shape[1], "decoder_input_ids" if heard else "input_ids"
    for _ in range(count):
        logits = model(**{name: texts}, use_cache=False, **heard).logits[:, -1:]
        texts = torch.cat([texts, logits.argmax(-1)], 1)
    return texts[:, begun:]


@pytest.mark.parametrize("name", FOUR)
def test_the_step_decodes_the_tokens_that_the_model_does(name: str) -> None:
    model, decoder = decoder_of(name)
    texts = torch.tensor([[5, 3, 8, 9, 30], [7, 7, 7, 20, 1], [2, 50, 4, 9, 9]])
    found = Sequences(decoder, texts, []).decode(6)
    assert torch.equal(found, decoded_by(model, texts, 6))


@pytest.mark.parametrize("name", FOUR)
def test_its_inputs_and_outputs_are_as_a_server_takes_them(name: str) -> None:
    _, decoder = decoder_of(name)
    graph = decoder.captured.graph
    assert fits(graph.inputs[2])
    assert graph.inputs[2].dtype == ("int64" if name == "bloom" else "float32")
    assert len(state_in(graph)) == 4
    assert not context_in(graph)
    assert all(value.dims[0] == value.dims[2] == -1 for value in state_in(graph))
    assert all(isinstance(output, Slot) for output in graph.outputs)
    assert decoder.positions == (0 if name == "bloom" else 32)


def test_a_layer_that_sees_a_window_sees_it_behind_a_long_text() -> None:
    """The tokens of a capture's own trial all lie within the window."""
    model, decoder = decoder_of("mistral")
    assert decoder.captured.graph.inputs[2].dtype == "int64"
    texts = torch.arange(40).view(2, 20)
    found = Sequences(decoder, texts, []).decode(6)
    assert torch.equal(found, decoded_by(model, texts, 6))


def test_a_step_that_sees_beyond_the_window_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.remote.graph.decoder._kinds", lambda model: [_ADDED])
    with pytest.raises(CannotCapture, match="does not go by the positions and the mask"):
        capture_decoder(language_model("mistral"))


@pytest.mark.slow
def test_a_model_with_an_encoder_hears_once_and_decodes_what_it_heard() -> None:
    model, decoder = decoder_of("whisper")
    assert decoder.listening is not None
    assert decoder.positions == 24
    heard = torch.cat([sound(0), sound(1)])
    listening = Program(sent(decoder.listening.graph), decoder.listening.tensors, CPU)
    context = listening.run([heard])
    assert len(context) == len(context_in(decoder.captured.graph)) == 4
    assert all(value.dims[0] == -1 for value in context_in(decoder.captured.graph))
    texts = torch.tensor([[1, 5], [1, 6]])
    found = Sequences(decoder, texts, context).decode(5)
    assert torch.equal(found, decoded_by(model, texts, 5, input_features=heard))


@pytest.mark.slow
def test_what_the_decoder_does_with_its_first_token_is_no_part_of_listening() -> None:
    _, decoder = decoder_of("whisper")
    assert decoder.listening is not None
    names = [weight.name for weight in decoder.listening.graph.weights]
    assert not [name for name in names if "decoder" in name and "encoder_attn" not in name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mamba", "MambaForCausalLM cannot have a session: .* no past_key_values; call load"),
        ("bert", "BertModel cannot have a session: it returns no past_key_values"),
        ("t5", "T5ForConditionalGeneration cannot have a session: its encoder reads texts"),
    ],
)
def test_what_cannot_have_a_session_says_why(name: str, words: str) -> None:
    with pytest.raises(CannotCapture, match=words):
        capture_decoder(language_model(name))


def test_a_module_that_is_no_language_model_says_so() -> None:
    with pytest.raises(CannotCapture, match="Linear cannot have a session"):
        capture_decoder(torch.nn.Linear(2, 2))


@pytest.mark.slow
def test_a_model_that_counts_its_own_positions_is_found_out() -> None:
    """It would be right alone, and wrong beside a longer sequence."""
    model = language_model("gpt2")

    def forward(**kwargs: Any) -> Any:
        cache = kwargs.get("past_key_values")
        if cache is not None and "position_ids" in kwargs:
            begun, new = cache.get_seq_length(), kwargs["input_ids"].shape[1]
            kwargs["position_ids"] = torch.arange(begun, begun + new)[None]
        return own_forward(**kwargs)

    own_forward, model.forward = model.forward, forward
    with pytest.raises(CannotCapture, match="does not go by the positions and the mask"):
        capture_decoder(model)
