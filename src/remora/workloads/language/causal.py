"""Left-to-right language models of transformers, made from their config classes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from remora.workloads.contract import Session, Work
from remora.workloads.language.decoding import DecodeSession
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch
from remora.workloads.text import draw_tokens


@dataclass(frozen=True)
class CausalSizes:
    """Sizes of a left-to-right language model and of its step."""

    batch: int
    sequence: int
    """Tokens a sequence trains on or is prefilled with."""
    layers: int
    width: int
    heads: int
    vocabulary: int
    positions: int
    new_tokens: int = 0
    """Tokens that one decode step adds to each sequence."""
    dtype: str = "float32"


@dataclass(frozen=True)
class Architecture:
    """A family of transformers: its classes, and how its config names the sizes."""

    config_class: str
    model_class: str
    config: Callable[[CausalSizes], Mapping[str, Any]]

    def build(self, sizes: CausalSizes) -> torch.nn.Module:
        transformers = importlib.import_module("transformers")
        config = getattr(transformers, self.config_class)(**self.config(sizes))
        model: torch.nn.Module = getattr(transformers, self.model_class)(config)
        # Some classes leave the loss to a guess that is made aloud; this is the one it makes.
        model.loss_type = "ForCausalLM"  # type: ignore[assignment]
        return model


@dataclass
class CausalWorkload(ModelWorkload[CausalSizes]):
    """Next-token training, scoring (``forward``), reading a prompt (``prefill``), or decoding."""

    architecture: Architecture = field(kw_only=True)
    packages: tuple[str, ...] = ("transformers",)
    weight_std: float | None = 0.02

    __hash__ = object.__hash__

    def network(self, sizes: CausalSizes) -> torch.nn.Module:
        return self.architecture.build(sizes)

    def dtype(self, sizes: CausalSizes) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, sizes.dtype)
        return dtype

    def batches(
        self, sizes: CausalSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence)
        return [{"input_ids": ids} for ids in draw_tokens(shape, sizes.vocabulary, device, seed)]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        ids = batch["input_ids"]
        result: torch.Tensor
        if self.mode == "train":
            result = model(input_ids=ids, labels=ids, use_cache=False).loss
        elif self.mode == "prefill":
            result = model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
        else:
            result = model(input_ids=ids, use_cache=False).logits
        return result

    def work(self, sizes: CausalSizes) -> Work:
        tokens = sizes.new_tokens if self.mode == "decode" else sizes.sequence
        return Work(sizes.batch * tokens, "tokens")

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
        prompt = self.batches(sizes, device, seed, data)[0]["input_ids"]
        return DecodeSession(
            network, prompt, sizes.new_tokens, work=self.work(sizes), device=device
        )
