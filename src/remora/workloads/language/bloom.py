"""BLOOM-560M: BigScience 2022, table 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from remora.workloads.contract import Workload
from remora.workloads.language.causal import Architecture, CausalSizes, CausalWorkload, scales
from remora.workloads.optimizers import adamw


def _config(sizes: CausalSizes) -> Mapping[str, Any]:
    """BLOOM has no learned positions and its feed-forward layers are always four times as wide."""
    return {
        "n_layer": sizes.layers,
        "hidden_size": sizes.width,
        "n_head": sizes.heads,
        "vocab_size": sizes.vocabulary,
    }


_BLOOM = Architecture("BloomConfig", "BloomForCausalLM", _config)


def workloads() -> Iterator[Workload]:
    full = CausalSizes(24, 1024, 16, 4096, 250880, 2048)
    yield CausalWorkload(
        "bloom-560m",
        "train",
        scales(
            "train",
            quick=CausalSizes(4, 256, 4, 1024, 8192, 128),
            standard=full,
            paper=replace(full, sequence=2048),
        ),
        "BigScience (2022), table 3, one sequence of the full context; "
        "BLOOM is a model of PCcheck's (ASPLOS 2025) figure 8; 560M is the size that fits here",
        optimizer=adamw(lr=3e-4),
        architecture=_BLOOM,
    )
