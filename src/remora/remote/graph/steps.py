"""One step of a language model of transformers as a module from tensors to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from remora.core.errors import CannotCapture

_WINDOW = "DynamicSlidingWindowLayer"


class DecoderStep(torch.nn.Module):
    """A causal language model, its cache taken apart."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        *state: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        read = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache_of(state),
            use_cache=True,
            logits_to_keep=1,
        )
        return (read.logits, *state_of(read.past_key_values))


class ListenerStep(torch.nn.Module):
    """The decoder of a model with an encoder; what it sees of that are keys and values, too.

    Those come before the state, layer by layer, and stay as they are.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        *context_and_state: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        half = len(context_and_state) // 2
        context, state = context_and_state[:half], context_and_state[half:]
        read = self.model(
            decoder_input_ids=tokens,
            decoder_position_ids=positions,
            decoder_attention_mask=mask,
            encoder_outputs=(_as_wide_as(context[0], self.model),),
            past_key_values=_both(state, context),
            use_cache=True,
        )
        return (read.logits[:, -1:], *state_of(read.past_key_values.self_attention_cache))


class Listening(torch.nn.Module):
    """What a model with an encoder keeps of its input: keys and values for its decoder."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, heard: torch.Tensor) -> tuple[torch.Tensor, ...]:
        begin = torch.zeros(heard.shape[0], 1, dtype=torch.int64, device=heard.device)
        # Its one token is dropped from the graph again: nothing that is kept depends on it.
        read = self.model(heard, decoder_input_ids=begin, use_cache=True)
        return tuple(state_of(read.past_key_values.cross_attention_cache))


def cache_of(state: Sequence[torch.Tensor]) -> Any:
    """A transformers cache that holds keys and values, layer by layer."""
    cache = import_module("transformers").DynamicCache()
    for layer in range(len(state) // 2):
        keys, values = state[2 * layer : 2 * layer + 2]
        held = cache.layer_class_to_replicate()
        held.lazy_initialization(keys, values)
        held.keys, held.values = keys, values
        cache.layers.append(held)
    return cache


def state_of(cache: Any) -> list[torch.Tensor]:
    """Keys and values of every layer of a transformers cache, in order.

    Raises:
        CannotCapture: a layer keeps something else, as a running sum.
    """
    state: list[torch.Tensor] = []
    for layer in getattr(cache, "layers", [cache]):
        if type(layer).__name__ != "DynamicLayer":
            raise CannotCapture(
                f"the model keeps a {type(layer).__name__} between tokens; "
                "sessions hold plain keys and values, so call load() and pass the whole text"
            )
        state += [layer.keys, layer.values]
    return state


def windows_of(cache: Any) -> Sequence[int]:
    """How many tokens each layer of a transformers cache keeps, of those that keep a part only."""
    layers = getattr(cache, "layers", ())
    return [layer.sliding_window for layer in layers if type(layer).__name__ == _WINDOW]


def filled(config: Any, state: Sequence[torch.Tensor]) -> Any:
    """The cache that a model of that ``config`` would have made itself, with that ``state``."""
    cache = import_module("transformers").DynamicCache(config=config.get_text_config(decoder=True))
    for layer, held in enumerate(cache.layers):
        held.update(*state[2 * layer : 2 * layer + 2])
    return cache


def _both(state: Sequence[torch.Tensor], context: Sequence[torch.Tensor]) -> Any:
    """A cache of what was read, and of what was heard, which is there already."""
    both = import_module("transformers").EncoderDecoderCache(cache_of(state), cache_of(context))
    both.is_updated = dict.fromkeys(range(len(context) // 2), True)
    return both


def _as_wide_as(keys: torch.Tensor, model: Any) -> torch.Tensor:
    """A stand-in for what the encoder gave: its shape is looked at, and nothing else."""
    return keys.new_zeros(keys.shape[0], keys.shape[2], model.config.hidden_size)
