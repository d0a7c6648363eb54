"""Which class each value gets, on models whose labels are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from tests.remote.graph.language import decoder_of, language_model, sound
from tests.remote.graph.made import graph_of, node

from remora.core.errors import BadValue, UnknownName
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.decoder import state_in
from remora.remote.graph.flow import Flow
from remora.remote.graph.nodes import Graph, Many, Slot, Value, Weight
from remora.remote.graph.parts import attentions, branches, convolution_stacks, phase
from remora.remote.graph.residency import (
    Residency,
    keys_and_values,
    residency,
    state_pairs,
)
from remora.workloads import registry


@dataclass(frozen=True)
class Labels:
    """What is known of a model."""

    state: int = 0
    """Inputs that belong to a session."""
    grows: int = 0
    """Those of them that come out again, longer."""
    attentions: int = 0
    stacks: int = 0
    """Stacks of convolutions."""
    branches: tuple[tuple[int, ...], ...] = ()
    """The inputs of each branch."""


LABELS: Mapping[str, Labels] = {
    "gpt2": Labels(state=4, grows=4, attentions=2),
    "llama": Labels(state=4, grows=4, attentions=2),
    "opt": Labels(state=4, grows=4, attentions=2),
    "bloom": Labels(state=4, grows=4, attentions=2),
    "bert": Labels(attentions=2),
    "resnet": Labels(stacks=1),
    "vgg": Labels(stacks=1),
    "clip": Labels(attentions=8, branches=((0,), (1,))),
    "whisper encoder": Labels(attentions=1, stacks=1),
    "whisper decoder": Labels(state=8, grows=4, attentions=4),
    "siamese": Labels(stacks=2, branches=((0,), (1,))),
}
QUICK = {"gpt2", "bloom", "bert", "resnet"}
MODELS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LABELS]


def workload_model(name: str) -> torch.nn.Module:
    return registry.get(name).build("quick", torch.device("cpu")).model.eval()


class Scores(torch.nn.Module):
    def __init__(self, clip: torch.nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, texts: torch.Tensor, images: torch.Tensor) -> Any:
        return self.clip(input_ids=texts, pixel_values=images).logits_per_image


class Encoder(torch.nn.Module):
    def __init__(self, whisper: Any) -> None:
        super().__init__()
        self.encoder = whisper.get_encoder()

    def forward(self, heard: torch.Tensor) -> Any:
        return self.encoder(heard).last_hidden_state


class Siamese(torch.nn.Module):
    """Two pictures by the same weights, compared at the end."""

    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)]
        self.seen = torch.nn.Sequential(*layers, torch.nn.Flatten())

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cosine_similarity(self.seen(one), self.seen(other))


@cache
def captured_of(name: str) -> Captured:
    ids, picture = torch.arange(10).view(2, 5), torch.randn(2, 3, 64, 64)
    match name:
        case "bert":
            return capture(language_model("bert"), [ids], {"attention_mask": torch.ones_like(ids)})
        case "resnet":
            return capture(workload_model("resnet18-forward"), [picture])
        case "vgg":
            return capture(workload_model("vgg16-train"), [picture])
        case "clip":
            clip = workload_model("clip-vit-b32-forward")
            return capture(
                Scores(clip), [torch.arange(64).view(2, 32), torch.randn(2, 3, 128, 128)]
            )
        case "whisper encoder":
            return capture(Encoder(language_model("whisper")), [sound().repeat(2, 1, 1)])
        case "siamese":
            return capture(Siamese().eval(), [picture, picture + 1])
    return decoder_of(name.split()[0])[1].captured


@pytest.mark.parametrize("name", MODELS)
def test_every_part_of_a_model_is_found(name: str) -> None:
    flow, labels = Flow(captured_of(name).graph), LABELS[name]
    assert len(attentions(flow)) == labels.attentions
    assert len(convolution_stacks(flow)) == labels.stacks
    assert tuple(branch.inputs for branch in branches(flow)) == labels.branches
    assert len(state_pairs(flow)) == labels.grows
    assert len(keys_and_values(flow)) == labels.state


@pytest.mark.parametrize("name", MODELS)
def test_every_value_gets_its_class(name: str) -> None:
    graph, labels = captured_of(name).graph, LABELS[name]
    found = residency(graph)
    filled = {slot for each in graph.nodes for slot in each.outputs if slot is not None}
    filled |= {value.slot for value in graph.inputs} | {weight.slot for weight in graph.weights}
    assert set(found) == filled
    assert {found[weight.slot] for weight in graph.weights} == {Residency.WEIGHT}
    inputs = [found[value.slot] for value in graph.inputs]
    others = len(inputs) - labels.state
    assert inputs == [Residency.INPUT] * others + [Residency.STATE] * labels.state
    outputs = [found[slot] for slot in Flow(graph).outputs]
    others = len(outputs) - labels.grows
    assert outputs == [Residency.OUTPUT] * others + [Residency.STATE] * labels.grows
    assert Residency.ACTIVATION in found.values()


def test_what_is_found_as_state_is_what_the_decoder_says_it_is() -> None:
    graph = captured_of("gpt2").graph
    pairs = state_pairs(Flow(graph))
    assert list(pairs) == [value.slot for value in state_in(graph)]
    assert list(pairs.values()) == Flow(graph).outputs[1:]


def test_one_token_is_decoding_and_several_are_a_prompt() -> None:
    graph = captured_of("gpt2").graph
    states = [(1, 4, 7, 8)] * 4
    assert phase(graph, [(1, 1), (1, 1), (1, 1, 1, 8), *states], has_state=True) == "decode"
    assert phase(graph, [(1, 3), (1, 3), (1, 1, 3, 10), *states], has_state=True) == "prefill"
    bert = captured_of("bert").graph
    assert phase(bert, [(1, 1), (1, 1)], has_state=False) == "whole"


# ------------------------------------------------- graphs made by hand

W = Weight(1, "layer.weight", "a" * 64, "float32", (4, 4))
X = Value(0, "float32", (-1, 4))
S = Value(2, "float32", (-1, 4))


def keeping(*nodes: Any, outputs: list[int]) -> Graph:
    return graph_of(*nodes, inputs=[X, S], weights=[W], outputs=outputs)


def test_a_buffer_that_is_replaced_in_part_is_state() -> None:
    new = node("aten.mm.default", Slot(0), Slot(1), out=3)
    for operator, arguments in {
        "aten.slice_scatter.default": (Slot(2), Slot(3), 0, 0, 1),
        "aten.index_copy.default": (Slot(2), 0, Slot(0), Slot(3)),
    }.items():
        graph = keeping(new, node(operator, *arguments, out=4), outputs=[4])
        found = residency(graph)
        assert found[2] is found[4] is Residency.STATE
        assert found[3] is Residency.ACTIVATION
        assert found[0] is Residency.INPUT


def test_inputs_that_are_only_joined_are_not() -> None:
    joined = node("aten.cat.default", Many((Slot(0), Slot(2))), out=3)
    assert set(residency(keeping(joined, outputs=[3])).values()) == {
        Residency.WEIGHT, Residency.INPUT, Residency.OUTPUT,
    }  # fmt: skip


def test_what_grows_and_does_not_come_out_is_not() -> None:
    new = node("aten.mm.default", Slot(0), Slot(1), out=3)
    joined = node("aten.cat.default", Many((Slot(2), Slot(3))), out=4)
    last = node("aten.sum.default", Slot(4), out=5)
    assert residency(keeping(new, joined, last, outputs=[5]))[2] is Residency.INPUT


def test_what_is_made_of_weights_alone_stays_with_the_model() -> None:
    turned = node("aten.t.default", Slot(1), out=3)
    product = node("aten.mm.default", Slot(0), Slot(3), out=4)
    found = residency(keeping(turned, product, outputs=[4]))
    assert found[3] is Residency.WEIGHT
    assert found[4] is Residency.OUTPUT


PRODUCT = keeping(node("aten.mm.default", Slot(0), Slot(1), out=3), outputs=[3])


def test_the_user_may_know_better() -> None:
    found = residency(PRODUCT, {"inputs.1": "state", "outputs.0": "state", "layer": "input"})
    assert found[2] is found[3] is Residency.STATE
    assert found[1] is Residency.INPUT
    assert found[0] is Residency.INPUT


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        ({"inputs.7": "state"}, UnknownName, "unknown value 'inputs.7' .*choose from: inputs.0"),
        ({"lay": "weight"}, UnknownName, "unknown value 'lay'"),
        (
            {"inputs.0": "stat"},
            UnknownName,
            r"unknown residency 'stat' \(did you mean 'state'\?\); choose from: activation, input",
        ),
        ({"outputs.0": "weight"}, BadValue, "outputs.0 cannot be .* 'weight'; choose from: output"),
        (
            {"inputs": "output"},
            BadValue,
            "inputs.0 cannot be of class 'output'; choose from: input",
        ),
    ],
)
def test_overrides_that_are_wrong_are_refused_by_name(
    overrides: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        residency(PRODUCT, overrides)
