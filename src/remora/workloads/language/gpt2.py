"""GPT-2 in its four sizes: Radford et al. 2019, table 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from remora.workloads.contract import Workload
from remora.workloads.language.causal import Architecture, CausalSizes, CausalWorkload
from remora.workloads.optimizers import adamw


def _config(sizes: CausalSizes) -> Mapping[str, Any]:
    return {
        "n_layer": sizes.layers,
        "n_embd": sizes.width,
        "n_head": sizes.heads,
        "vocab_size": sizes.vocabulary,
        "n_positions": sizes.positions,
        "bos_token_id": None,
        "eos_token_id": None,
    }


_GPT2 = Architecture("GPT2Config", "GPT2LMHeadModel", _config)

_ARCHITECTURES = {
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}


def workloads() -> Iterator[Workload]:
    quick = CausalSizes(
        batch=1, sequence=64, layers=4, width=256, heads=4, vocabulary=4096, positions=128
    )
    for model, (layers, width, heads) in _ARCHITECTURES.items():
        full = CausalSizes(1, 128, layers, width, heads, vocabulary=50257, positions=1024)
        yield CausalWorkload(
            model,
            "train",
            {"quick": quick, "standard": full, "paper": replace(full, sequence=1024)},
            "Radford et al. 2019, table 2 and section 2.3 (context 1024)",
            optimizer=adamw(lr=2.5e-4),
            architecture=_GPT2,
        )
