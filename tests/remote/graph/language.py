"""Language models of transformers, as small as they come."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from remora.remote.graph.decoder import Decoder, capture_decoder

VOCABULARY = 61
_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
_PLACES = {"max_position_embeddings": 32}

_MODELS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "gpt2": (
        "GPT2Config", "GPT2LMHeadModel",
        {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 32},
    ),
    "llama": (
        "LlamaConfig", "LlamaForCausalLM",
        {**_WIDE, **_PLACES, "intermediate_size": 64, "num_key_value_heads": 2},
    ),
    "opt": (
        "OPTConfig", "OPTForCausalLM",
        {**_WIDE, **_PLACES, "ffn_dim": 64, "word_embed_proj_dim": 32},
    ),
    "bloom": ("BloomConfig", "BloomForCausalLM", {"n_layer": 2, "hidden_size": 32, "n_head": 4}),
    "mistral": (
        "MistralConfig", "MistralForCausalLM",
        {**_WIDE, **_PLACES, "intermediate_size": 64, "num_key_value_heads": 2,
         "sliding_window": 18},
    ),
    "whisper": (
        "WhisperConfig", "WhisperForConditionalGeneration",
        {
            "encoder_layers": 1, "decoder_layers": 2, "d_model": 32, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
            "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 24,
            "decoder_start_token_id": 1,
        },
    ),
    "t5": (
        "T5Config", "T5ForConditionalGeneration",
        {"num_layers": 1, "d_model": 32, "d_ff": 64, "num_heads": 4, "d_kv": 8,
         "decoder_start_token_id": 1},
    ),
    "bert": (
        "BertConfig", "BertModel", {**_WIDE, "intermediate_size": 64},
    ),
    "mamba": ("MambaConfig", "MambaForCausalLM", {"num_hidden_layers": 1, "hidden_size": 32}),
}  # fmt: skip


def language_model(name: str) -> torch.nn.Module:
    """One whose tokens depend on what came before, the same every time."""
    import transformers

    config_class, model_class, sizes = _MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**sizes, **_IDS)
    model: torch.nn.Module = getattr(transformers, model_class)(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # a drawn bias would say the same whatever came before
            torch.nn.init.normal_(parameter, std=1.0)
    return model


@cache
def decoder_of(name: str) -> tuple[torch.nn.Module, Decoder]:
    """The model and its step as a graph, captured once for all tests."""
    model = language_model(name)
    return model, capture_decoder(model)


def sound(seed: int = 0) -> torch.Tensor:
    """What the smallest Whisper hears: (1, bands, frames)."""
    return torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(seed))
