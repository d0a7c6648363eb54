"""OPT: Zhang et al. 2022, table 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remora.workloads.contract import Mode, Workload
from remora.workloads.language.causal import Architecture, CausalSizes, Family


def _config(sizes: CausalSizes) -> Mapping[str, Any]:
    return {
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.width,
        "num_attention_heads": sizes.heads,
        "ffn_dim": sizes.hidden,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "word_embed_proj_dim": sizes.embedding or sizes.width,
        # The 350M member alone projects its embeddings and normalises after each block.
        "do_layer_norm_before": not sizes.embedding,
    }


_OPT = Architecture("OPTConfig", "OPTForCausalLM", _config)

_FULL = {
    "opt-350m": CausalSizes(24, 1024, 16, 4096, 50272, 2048, embedding=512),
    "opt-1.3b": CausalSizes(24, 2048, 32, 8192, 50272, 2048),
}

_QUICK = {
    "opt-350m": CausalSizes(4, 256, 4, 1024, 4096, 128, embedding=128),
    "opt-1.3b": CausalSizes(6, 256, 8, 1024, 4096, 128),
}

_TRAINED_LAYERS_AT_STANDARD = {"opt-1.3b": 6}
"""Trained whole, it needs more memory than a laptop has."""

_MODES: dict[Mode, tuple[Mapping[str, int], str]] = {
    "train": ({"sequence": 2048}, "batch 1 as OPT-1.3B in PCcheck (ASPLOS 2025), full context"),
    "decode": (
        {"sequence": 128, "new_tokens": 16},
        "16 tokens at batch 1 as in Genie's generate benchmark; the prompt of 128 is ours",
    ),
}


def workloads() -> Iterator[Workload]:
    return Family(
        architecture=_OPT,
        full=_FULL,
        quick=_QUICK,
        modes=_MODES,
        source="Zhang et al. (2022), table 1",
        learning_rate=1e-4,
        trained_layers_at_standard=_TRAINED_LAYERS_AT_STANDARD,
    ).workloads()
