"""GPT-2 in its four sizes (Radford et al. 2019, table 2), and a fifth with a state of 480 MB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remora.workloads.contract import Mode, Workload
from remora.workloads.language.causal import Architecture, CausalSizes, CausalWorkload, Family
from remora.workloads.optimizers import adamw


def _config(sizes: CausalSizes) -> Mapping[str, Any]:
    return {
        "n_layer": sizes.layers,
        "n_embd": sizes.width,
        "n_head": sizes.heads,
        "n_inner": sizes.hidden,
        "vocab_size": sizes.vocabulary,
        "n_positions": sizes.positions,
    }


_GPT2 = Architecture("GPT2Config", "GPT2LMHeadModel", _config)

_FULL = {
    "gpt2": CausalSizes(12, 768, 12, 3072, 50257, 1024),
    "gpt2-medium": CausalSizes(24, 1024, 16, 4096, 50257, 1024),
    "gpt2-large": CausalSizes(36, 1280, 20, 5120, 50257, 1024),
    "gpt2-xl": CausalSizes(48, 1600, 25, 6400, 50257, 1024),
}

_QUICK = {
    "gpt2": CausalSizes(4, 256, 4, 1024, 4096, 128),
    "gpt2-medium": CausalSizes(6, 256, 4, 1024, 4096, 128),
    "gpt2-large": CausalSizes(6, 320, 5, 1280, 4096, 128),
    "gpt2-xl": CausalSizes(8, 256, 4, 1024, 4096, 128),
}

_TRAINED_LAYERS_AT_STANDARD = {"gpt2-large": 12, "gpt2-xl": 12}
"""Trained whole, these two need more memory than a laptop has."""

_40M = CausalSizes(8, 512, 8, 2048, 28672, 128, sequence=16)
"""40.0 M parameters: with AdamW's moments 480 MB."""
_TINY = CausalSizes(2, 2, 2, 8, 50257, 1024, sequence=8, new_tokens=16)
_LEARNING_RATE = 2.5e-4

_MODES: dict[Mode, tuple[Mapping[str, int], str]] = {
    "train": ({"sequence": 1024}, "batch 1 as gpt2-large in Tally (ASPLOS 2025), full context"),
    "forward": ({"sequence": 1024}, "one sequence of the full context"),
    "prefill": ({"sequence": 1024}, "a prompt of 1k as in Genie's prefill benchmark"),
    "decode": (
        {"sequence": 128, "new_tokens": 16},
        "16 tokens at batch 1 as in Genie's generate benchmark; the prompt of 128 is ours",
    ),
}


def workloads() -> Iterator[Workload]:
    yield from Family(
        architecture=_GPT2,
        full=_FULL,
        quick=_QUICK,
        modes=_MODES,
        source="Radford et al. (2019), table 2 and section 2.3",
        learning_rate=_LEARNING_RATE,
        trained_layers_at_standard=_TRAINED_LAYERS_AT_STANDARD,
    ).workloads()
    yield CausalWorkload(
        "tiny-gpt2",
        "decode",
        dict.fromkeys(("quick", "standard", "paper"), _TINY),
        "hf_tiny_gpt2 of Genie's framework benchmark: GPT-2 of 2 layers, 2 wide, that generates 16 "
        "tokens; the prompt of 8 is ours",
        architecture=_GPT2,
    )
    yield CausalWorkload(
        "gpt2-40m",
        "train",
        dict.fromkeys(("quick", "standard", "paper"), _40M),
        "GPT-2 of 8 layers, sizes ours: a state as large as device-like’s, and a step of about a "
        "third of a second on one core; fused AdamW is the default of transformers’ Trainer",
        optimizer=adamw(_LEARNING_RATE, fused=True),
        architecture=_GPT2,
    )
