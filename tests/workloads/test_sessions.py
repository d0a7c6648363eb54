"""What a step is: independent of other random numbers, equal work, real decoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch.utils._python_dispatch import TorchDispatchMode

from remora.core.errors import BadValue
from remora.workloads import registry
from remora.workloads.fast_init import build_seeded
from remora.workloads.language.transformer_xl import (
    TransformerXl,
    XlSizes,
    relative_shift,
    split_targets,
)
from remora.workloads.model_workload import ModelWorkload
from remora.workloads.optimizers import adamw

CPU = torch.device("cpu")


def test_dropout_does_not_depend_on_what_else_draws_numbers() -> None:
    quiet = registry.get("vgg16-train").build("quick", CPU)
    expected = [quiet.step().digest for _ in range(2)]
    noisy = registry.get("vgg16-train").build("quick", CPU)
    found = []
    for _ in range(2):
        torch.rand(17)
        found.append(noisy.step().digest)
    assert found == expected


def test_training_learns() -> None:
    session = registry.get("gpt2-train").build("quick", CPU)
    losses = [session.step().value for _ in range(12)]
    assert sum(losses[-4:]) < sum(losses[:4]) - 1.0


class _ValuesRead(TorchDispatchMode):
    """Lists what would wait for a device, of the operators run on tensors without data."""

    _BY_SHAPE = ("aten::nonzero", "aten::masked_select", "aten::equal")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name
        if name == "aten::_local_scalar_dense" and args[0].is_meta:
            self.found.append(name)
            return True
        result = func(*args, **(kwargs or {}))
        if name in self._BY_SHAPE or (
            name == "aten::_to_copy" and args[0].is_meta != result.is_meta
        ):
            self.found.append(name)
        return result


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_a_step_asks_nothing_back_from_the_device(name: str, asking: frozenset[str]) -> None:
    """GIVEN a session of tensors without data, warmed up THEN a step reads none of their values,
    but for the one that some classes of transformers read."""
    workload = registry.get(name)
    with _ValuesRead():
        session = workload.build("quick", torch.device("meta"))
        session.step()
    with _ValuesRead() as read:
        session.step()
    assert read.found == (["aten::_local_scalar_dense"] if name in asking else [])


@pytest.mark.parametrize("name", ["gpt2-decode", "opt-350m-decode"])
def test_decoding_with_a_cache_gives_what_rereading_everything_gives(name: str) -> None:
    session = registry.get(name).build("quick", CPU, seed=1)
    decoded = session.step().tensor
    assert torch.equal(session.step().tensor, decoded)  # it begins at the prompt again
    workload = registry.get(name)
    assert isinstance(workload, ModelWorkload)
    ids = workload.batches(workload.table["quick"], CPU, 1, None)[0]["ids"]
    with torch.no_grad():
        for _ in range(1 + decoded.shape[1]):
            following = session.model(input_ids=ids).logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, following], dim=1)
    assert torch.equal(ids[:, -decoded.shape[1] :], decoded)


@pytest.mark.slow
def test_local_weights_replace_random_ones(tmp_path: Path) -> None:
    workload = registry.get("gpt2-forward")
    assert isinstance(workload, ModelWorkload)
    saved = workload.build("quick", CPU, seed=1)
    save_model(saved.model, str(tmp_path / "model.safetensors"))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = workload.build("quick", CPU, seed=2, weights=path)
        for name, tensor in loaded.model.state_dict().items():
            assert torch.equal(tensor, saved.model.state_dict()[name]), name
    with pytest.raises(BadValue, match="choose the scale that was saved"):
        workload.build("standard", CPU, weights=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadValue, match="cannot be read"):
        workload.build("quick", CPU, weights=tmp_path)
    with pytest.raises(BadValue, match=r"no \.safetensors file"):
        workload.build("quick", CPU, weights=tmp_path / "absent")


def test_an_optimizer_is_shown_with_its_settings() -> None:
    assert str(adamw(lr=0.5, weight_decay=0.0)) == "AdamW(lr=0.5, weight_decay=0.0)"


# ---------------------------------------------------------------- Transformer-XL

SMALL = XlSizes(2, 6, 5, 2, 16, 2, 8, 32, vocabulary=50, frequent=10, common=25, rare=40)


def _small() -> TransformerXl:
    model = build_seeded(lambda: TransformerXl(SMALL, drop=0.0), CPU, seed=0, std=0.2)
    assert isinstance(model, TransformerXl)
    return model.eval()


def test_relative_shift_aligns_distances_with_keys() -> None:
    queries, keys = 4, 7
    by_distance = torch.arange(keys).flip(0).expand(1, queries, keys).double()
    shifted = relative_shift(by_distance)[0]
    for query in range(queries):
        here = keys - queries + query
        for key in range(here + 1):
            assert shifted[query, key] == here - key


def test_adaptive_softmax_is_a_distribution() -> None:
    """The likelihoods of all words after one text add up to one."""
    model = _small()
    hidden = torch.randn(1, SMALL.width)
    with torch.no_grad():
        losses = [
            model._loss(hidden, split_targets(torch.tensor([word]), SMALL))
            for word in range(SMALL.vocabulary)
        ]
    assert torch.stack(losses).neg().exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_memory_stands_in_for_the_text_before() -> None:
    """GIVEN memory as long as the text, one layer deep enough to see it
    THEN changing the segment before changes the loss, and what comes after a word does not."""
    model = _small()
    words = torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(1))
    targets = split_targets(words.flatten(), SMALL)
    with torch.no_grad():
        _, after_words = model(words, targets, model.empty_memory())
        _, after_others = model(words.flip(1), targets, model.empty_memory())
        with_memory, _ = model(words, targets, after_words)
        with_other_memory, _ = model(words, targets, after_others)
    assert with_memory != with_other_memory
    assert all(not kept.requires_grad for kept in after_words)


def test_no_word_sees_those_after_it() -> None:
    model = _small()
    words = torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(1))
    changed = words.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 50
    seen: list[torch.Tensor] = []
    model.layers[-1].register_forward_hook(lambda _module, _inputs, hidden: seen.append(hidden))
    targets = split_targets(words.flatten(), SMALL)
    with torch.no_grad():
        for text in (words, changed):
            model(text, targets, model.empty_memory())
    assert torch.equal(seen[0][:, :-1], seen[1][:, :-1])
    assert not torch.equal(seen[0][:, -1], seen[1][:, -1])


def test_decoding_tells_of_every_token_as_it_comes() -> None:
    pytest.importorskip("transformers")
    session = registry.get("tiny-gpt2-decode").build("quick", torch.device("cpu"))
    told: list[None] = []
    session.step()
    session.on_first = lambda: told.append(None)
    outcome = session.step()
    assert len(told) == outcome.tensor.numel() == 16
