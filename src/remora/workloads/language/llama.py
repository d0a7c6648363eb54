"""Llama 2 7B: Touvron et al. 2023, served in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from remora.workloads.contract import Mode, Workload
from remora.workloads.language.causal import Architecture, CausalSizes, CausalWorkload, scales


def _config(sizes: CausalSizes) -> Mapping[str, Any]:
    return {
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.width,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "intermediate_size": sizes.hidden,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "rms_norm_eps": 1e-5,
    }


_LLAMA = Architecture("LlamaConfig", "LlamaForCausalLM", _config)

_MODES: dict[Mode, tuple[dict[str, int], str]] = {
    "prefill": ({"sequence": 1024}, "a prompt of 1k"),
    "decode": ({"sequence": 128, "new_tokens": 1}, "1 token, after a prompt of 128 that is ours"),
}


def workloads() -> Iterator[Workload]:
    full = CausalSizes(32, 4096, 32, 11008, 32000, 4096, dtype="bfloat16")
    for mode, (step, source) in _MODES.items():
        yield CausalWorkload(
            "llama-2-7b",
            mode,
            {
                scale: replace(sizes, new_tokens=min(1, sizes.new_tokens))
                for scale, sizes in scales(
                    mode,
                    quick=CausalSizes(2, 256, 4, 768, 4096, 256, dtype="bfloat16"),
                    standard=replace(full, layers=8),
                    paper=replace(full, **step),  # type: ignore[arg-type]
                ).items()
            },
            f"Touvron et al. (2023), 7B config; {source}, as in Genie's framework benchmark",
            architecture=_LLAMA,
        )
