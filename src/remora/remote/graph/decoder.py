"""One step of a language model as a graph: tokens and state in, logits and state out.

The keys and values of earlier tokens are inputs, and with the new ones added they are outputs, so
whoever runs the graph may keep them. The step takes any number of tokens and any length of state:
reading a prompt, a part of one, and decoding one token of several sequences are the same graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from remora.core.errors import CannotCapture
from remora.remote.graph.capture import Captured, Dims, capture
from remora.remote.graph.program import Program

_BATCH, _NEW, _OLD = 2, 3, 5
"""Sizes of the example: all different, and none of them 1, which would be taken for fixed."""
_TOLERANCE = 1e-3
"""How far logits may be from the model's own, of their largest: sums are taken in another order."""


@dataclass(frozen=True)
class Decoder:
    """A language model's step as a graph.

    Inputs: token ids (batch, new), positions (batch, new), mask (batch, 1, new, old + new; added
    to attention scores, 0 or -inf), then the state, tensor by tensor, (batch, heads, old, width).
    Outputs: logits of the last token (batch, 1, vocabulary), then the state (…, old + new, …).
    """

    captured: Captured
    positions: int
    """How many tokens a sequence may have; 0 where the model does not say."""


class DecoderStep(torch.nn.Module):
    """A causal language model of transformers, its cache taken apart."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.cache_class = import_module("transformers").DynamicCache

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
            past_key_values=self._cache(state),
            use_cache=True,
            logits_to_keep=1,
        )
        return (read.logits, *state_of(read.past_key_values))

    def _cache(self, state: Sequence[torch.Tensor]) -> Any:
        cache = self.cache_class()
        for layer in range(len(state) // 2):
            keys, values = state[2 * layer : 2 * layer + 2]
            cache.update(keys[:, :, :0], values[:, :, :0], layer)
            cache.layers[layer].keys, cache.layers[layer].values = keys, values
        return cache


def capture_decoder(model: torch.nn.Module) -> Decoder:
    """``model``, a causal language model of transformers, as a graph; tried against the model.

    Raises:
        CannotCapture: it is none, keeps other state than keys and values, or gives other logits.
    """
    captured = _captured(model)
    _try(model, captured)
    config: Any = model.config
    return Decoder(captured, int(getattr(config, "max_position_embeddings", 0) or 0))


def state_of(cache: Any) -> list[torch.Tensor]:
    """Keys and values of every layer of a transformers cache, in order.

    Raises:
        CannotCapture: a layer keeps something else, a window or a running sum.
    """
    state: list[torch.Tensor] = []
    for layer in cache.layers:
        if type(layer).__name__ != "DynamicLayer":
            raise CannotCapture(
                f"the model keeps a {type(layer).__name__} between tokens; "
                "sessions hold plain keys and values, so call load() and pass the whole text"
            )
        state += [layer.keys, layer.values]
    return state


def no_state(graph_inputs: Sequence[tuple[str, Sequence[int]]]) -> list[torch.Tensor]:
    """State of no token yet, for the dtypes and dims of a decoder's state: one sequence."""
    return [
        torch.zeros(1, *(max(size, 0) for size in dims[1:]), dtype=getattr(torch, dtype))
        for dtype, dims in graph_inputs
    ]


def mask_of(new: int, old: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention scores so that no token sees a later one: (1, 1, new, old + new).

    Finite, as transformers has it: a row of minus infinities would give NaN.
    """
    allowed = torch.ones(new, old + new, dtype=torch.bool).tril(old)
    mask = torch.zeros(1, 1, new, old + new, dtype=dtype)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)


@torch.no_grad()
def _captured(model: torch.nn.Module) -> Captured:
    ids = _ids(model, _BATCH * (_OLD + _NEW)).view(_BATCH, -1)
    state = _state_after(model, ids[:, :_OLD])
    positions = torch.arange(_OLD, _OLD + _NEW).expand(_BATCH, _NEW).contiguous()
    mask = mask_of(_NEW, _OLD, state[0].dtype).repeat(_BATCH, 1, 1, 1)
    return capture(
        DecoderStep(model),
        (ids[:, _OLD:], positions, mask, *state),
        dims=[_any(0, 1), _any(0, 1), _any(0, 2, 3), *(_any(0, 2) for _ in state)],
    )


def _ids(model: torch.nn.Module, count: int) -> torch.Tensor:
    """So many token ids, all of the vocabulary."""
    config: Any = model.config
    return torch.arange(count).remainder(int(getattr(config, "vocab_size", 1)))


def _state_after(model: torch.nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    try:
        read: Any = model(input_ids=ids, use_cache=True)
        cache = read.past_key_values
    except (TypeError, AttributeError) as error:
        raise CannotCapture(
            f"{type(model).__name__} cannot have a session: it takes no input_ids or returns no "
            "past_key_values; call load() for models without state"
        ) from error
    return state_of(cache)


@torch.no_grad()
def _try(model: torch.nn.Module, captured: Captured) -> None:
    """Two calls that a session makes, a prompt and one more token, against the model's own."""
    program = Program(captured.graph, captured.tensors, torch.device("cpu"))
    ids = _ids(model, _OLD)[None]
    read: Any = model(input_ids=ids, use_cache=False)
    state = no_state([(value.dtype, value.dims) for value in captured.graph.inputs[3:]])
    for begin, end in ((0, _OLD - 1), (_OLD - 1, _OLD)):
        positions = torch.arange(begin, end)[None]
        mask = mask_of(end - begin, begin, state[0].dtype)
        logits, *state = program.run([ids[:, begin:end], positions, mask, *state])
        _compare(logits[:, -1], read.logits[:, end - 1], model)


def _compare(captured: torch.Tensor, own: torch.Tensor, model: torch.nn.Module) -> None:
    largest = float(own.abs().max())
    apart = float((captured.float() - own.float()).abs().max())
    if apart > _TOLERANCE * max(largest, 1.0):
        raise CannotCapture(
            f"{type(model).__name__} as a graph gives logits {apart:.3g} off its own, of up to "
            f"{largest:.3g}: it does not go by the positions and the mask it is given; "
            "call load() and pass the whole text"
        )


def _any(*dims: int) -> Dims:
    return dict.fromkeys(dims, torch.export.Dim.AUTO)
