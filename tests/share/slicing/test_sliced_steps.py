"""Whole training steps with every operator cut: the same bit for bit, and nobody waits long."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from remora.share.slicing.mode import Piece, Sliced
from remora.share.slicing.profiler import Settings
from remora.share.slicing.slicing import Slicing

Step = Callable[[], torch.Tensor]
QUICK = Settings(turnaround_ns=100_000, warm_ups=1, timed=2, patience_ns=20_000_000)


def _mlp(optimizer: str) -> tuple[nn.Module, Step]:
    model = nn.Sequential(
        nn.Linear(128, 512), nn.ReLU(), nn.LayerNorm(512), nn.Linear(512, 512), nn.GELU(),
        nn.Linear(512, 10),
    )  # fmt: skip
    x, y = torch.randn(64, 128), torch.randint(0, 10, (64,))
    return model, _step(model, optimizer, lambda: nn.functional.cross_entropy(model(x), y))


def _gpt2(optimizer: str) -> tuple[nn.Module, Step]:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 1, "n_embd": 64, "n_head": 4, "vocab_size": 1000, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    model.train()
    tokens = torch.randint(0, 1000, (4, 48))
    return model, _step(model, optimizer, lambda: model(input_ids=tokens, labels=tokens).loss)


def _resnet(optimizer: str) -> tuple[nn.Module, Step]:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_labels": 10}
    model = ResNetForImageClassification(ResNetConfig(**sizes))
    model.train()
    images, labels = torch.randn(4, 3, 48, 48), torch.randint(0, 10, (4,))
    return model, _step(model, optimizer, lambda: model(pixel_values=images, labels=labels).loss)


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
    "adamw, lists": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, foreach=True),
    "adamw, fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, fused=True),
}


def _step(model: nn.Module, optimizer: str, loss_of: Callable[[], torch.Tensor]) -> Step:
    trains = OPTIMIZERS[optimizer](model)

    def step() -> torch.Tensor:
        trains.zero_grad()
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trains.step()
        return loss.detach()

    return step


MODELS = {"mlp": _mlp, "gpt2": _gpt2, "resnet": _resnet}
CASES = [("mlp", "adamw, lists"), ("gpt2", "adamw, fused"), ("resnet", "sgd")]
OTHERS = [("mlp", "sgd"), ("mlp", "adamw"), ("mlp", "adamw, fused"), ("gpt2", "adamw, lists")]


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [*CASES, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)],
)
def test_steps_in_pieces_are_the_steps_bit_for_bit(model: str, optimizer: str) -> None:
    torch.manual_seed(0)
    plain, plain_step = MODELS[model](optimizer)
    torch.manual_seed(0)
    cut, cut_step = MODELS[model](optimizer)
    seen: list[Piece] = []
    slicing = Slicing(QUICK, report=lambda line: None)
    for _ in range(2):
        torch.manual_seed(1)
        wanted = plain_step()
        torch.manual_seed(1)
        with Sliced(slicing, seen.append):
            made = cut_step()
        assert torch.equal(made, wanted)
    for one, other in zip(plain.state_dict().values(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    operators = {piece.operator for piece in seen if piece.pieces > 1}
    assert len(operators) >= 2, operators


def test_somebody_is_asked_behind_every_piece_in_order() -> None:
    left, right = torch.randn(256, 256), torch.randn(256, 256)
    seen: list[Piece] = []
    slicing = Slicing(QUICK, report=lambda line: None)
    with Sliced(slicing, seen.append):
        product = left @ right
    assert torch.equal(product, left @ right)
    [*cut] = [piece for piece in seen if piece.operator == "aten.mm.default"]
    assert len(cut) > 1
    assert [(piece.begin, piece.end) for piece in cut] == [(n, n + 1) for n in range(len(cut))]
    assert {piece.pieces for piece in cut} == {len(cut)}
