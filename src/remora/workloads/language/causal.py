"""Left-to-right language models of transformers: trained, scored, prefilled, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from remora.workloads.contract import Mode, Scale, Session, Work, Workload
from remora.workloads.language.decoding import DecodeSession
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens


@dataclass(frozen=True)
class CausalSizes:
    """Sizes of a left-to-right language model and of its step. Zero means: does not apply."""

    layers: int
    width: int
    heads: int
    hidden: int
    """Width of the feed-forward layers."""
    vocabulary: int
    positions: int
    batch: int = 1
    sequence: int = 64
    """Tokens a sequence trains on or is prefilled with; when decoding, the prompt."""
    new_tokens: int = 0
    """Tokens that one decode step adds to each sequence."""
    embedding: int = 0
    """Width of the token embeddings where it is not ``width``."""
    dtype: str = "float32"


@dataclass(frozen=True)
class Architecture:
    """A family of transformers: its classes, and how its config names the sizes."""

    config_class: str
    model_class: str
    config: Callable[[CausalSizes], Mapping[str, Any]]

    def network(self, sizes: CausalSizes) -> torch.nn.Module:
        # No special tokens: the ids are drawn, and none of them ends or pads a sequence.
        special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        model = from_config(self.config_class, self.model_class, {**special, **self.config(sizes)})
        # Some classes leave the loss to a guess that is made aloud; this is the one it makes.
        model.loss_type = "ForCausalLM"  # type: ignore[assignment]
        return model


@dataclass(eq=False)
class CausalWorkload(ModelWorkload[CausalSizes]):
    """Next-token training, scoring (``forward``), reading a prompt (``prefill``), or decoding.

    Outcomes: the loss; all logits (batch, sequence, vocabulary); the last token's logits
    (batch, 1, vocabulary); the new token ids (batch, new_tokens).
    """

    architecture: Architecture = field(kw_only=True)
    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: CausalSizes) -> torch.nn.Module:
        return self.architecture.network(sizes)

    def dtype(self, sizes: CausalSizes) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, sizes.dtype)
        return dtype

    def batches(
        self, sizes: CausalSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence)
        return [{"ids": ids} for ids in tokens(shape, sizes.vocabulary, device, seed, data)]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        ids = batch["ids"]
        result: torch.Tensor
        if self.mode == "train":
            result = model(input_ids=ids, labels=ids, use_cache=False).loss
        elif self.mode == "prefill":
            result = model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
        else:
            result = model(input_ids=ids, use_cache=False).logits
        return result

    def work(self, sizes: CausalSizes) -> Work:
        per_sequence = sizes.new_tokens if self.mode == "decode" else sizes.sequence
        return Work(sizes.batch * per_sequence, "tokens")

    def session(
        self,
        network: torch.nn.Module,
        sizes: CausalSizes,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        if self.mode != "decode":
            return super().session(network, sizes, device, seed, data)
        prompt = self.batches(sizes, device, seed, data)[0]["ids"]
        work = self.work(sizes)
        return DecodeSession(network, prompt, sizes.new_tokens, work=work, device=device)


def scales(
    mode: Mode, *, quick: CausalSizes, standard: CausalSizes, paper: CausalSizes
) -> dict[Scale, CausalSizes]:
    """Sizes for ``mode``; what a step reads and writes is set for ``quick`` and ``standard``."""
    step: dict[Mode, dict[str, int]] = {
        "train": {"sequence": 64},
        "forward": {"sequence": 128},
        "prefill": {"sequence": 128},
        "decode": {"sequence": 32, "new_tokens": 8},
    }
    return {
        "quick": replace(quick, **step[mode]),  # type: ignore[arg-type]
        "standard": replace(standard, **step[mode]),  # type: ignore[arg-type]
        "paper": paper,
    }


@dataclass(frozen=True)
class Family:
    """Models of one architecture that differ in size, each under several modes.

    ``modes`` holds, for each mode, what a step reads and writes at ``paper`` scale and where that
    comes from.
    """

    architecture: Architecture
    full: Mapping[str, CausalSizes]
    quick: Mapping[str, CausalSizes]
    modes: Mapping[Mode, tuple[Mapping[str, int], str]]
    source: str
    learning_rate: float
    trained_layers_at_standard: Mapping[str, int]
    """Layers of the models that, trained whole, need more memory than a laptop has."""

    def workloads(self) -> Iterator[Workload]:
        """Every model under every mode."""
        for model in self.full:
            for mode in self.modes:
                yield self._workload(model, mode)

    def _workload(self, model: str, mode: Mode) -> CausalWorkload:
        full, (step, source) = self.full[model], self.modes[mode]
        layers = self.trained_layers_at_standard.get(model) if mode == "train" else None
        sizes = scales(
            mode,
            quick=self.quick[model],
            standard=replace(full, layers=layers or full.layers),
            paper=replace(full, **step),  # type: ignore[arg-type]
        )
        return CausalWorkload(
            model,
            mode,
            sizes,
            f"{self.source}; {source}",
            optimizer=adamw(lr=self.learning_rate) if mode == "train" else None,
            architecture=self.architecture,
        )
