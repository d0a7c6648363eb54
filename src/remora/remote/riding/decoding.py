"""A greedy ``generate`` loop of transformers: it runs on the server, and token ids come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from remora.remote.riding.cache import RemoteCache
from remora.remote.riding.calls import real_tokens

if TYPE_CHECKING:
    from remora.remote.client.model import RemoteModel
    from remora.remote.client.session import RemoteSession

_STOPS = ("MaxLengthCriteria", "EosTokenCriteria")


def is_greedy(
    model: Any,
    *,
    generation_config: Any,
    logits_processor: Sequence[Any] = (),
    stopping_criteria: Sequence[Any] = (),
    past_key_values: Any = None,
    use_cache: bool = True,
    synced_gpus: bool = False,
    **others: Any,
) -> bool:
    """Whether a loop takes the likeliest token and nothing else of each step."""
    config = generation_config
    wants_more = config.return_dict_in_generate or synced_gpus
    started = past_key_values is not None and past_key_values.get_seq_length() > 0
    return (
        use_cache
        and not (config.do_sample or wants_more or started or len(logits_processor))
        and not model.config.is_encoder_decoder
        and all(type(criterion).__name__ in _STOPS for criterion in stopping_criteria)
        and not isinstance(past_key_values, RemoteCache)
        and "inputs_embeds" not in others
    )


def decoded(
    model: RemoteModel,
    input_ids: torch.Tensor,
    *,
    generation_config: Any,
    stopping_criteria: Any,
    attention_mask: torch.Tensor | None = None,
    streamer: Any = None,
    **_: Any,
) -> torch.Tensor:
    """``input_ids`` (batch, tokens) and what is decoded behind them: (batch, tokens + new)."""
    count = stopping_criteria.max_length - input_ids.shape[1]
    stop = _stop_tokens(stopping_criteria)
    pad = generation_config._pad_token_tensor
    rows: list[Iterator[int]] = []
    sessions: list[RemoteSession] = []
    try:
        for row in range(input_ids.shape[0]):
            sessions.append(model.session())
            sessions[-1].prefill(real_tokens(input_ids, attention_mask, row))
        rows = [session.generate(count, stop=stop) for session in sessions]
        columns = _columns(rows, int(pad) if pad is not None else 0, input_ids, streamer)
        return torch.cat([input_ids, *columns], dim=1)
    finally:
        for session in sessions:
            session.close()


def _columns(
    rows: list[Iterator[int]], pad: int, input_ids: torch.Tensor, streamer: Any
) -> Iterator[torch.Tensor]:
    """Token by token of all rows, (batch, 1); one that has ended is filled up until all have."""
    while True:
        tokens = [next(row, None) for row in rows]
        if all(token is None for token in tokens):
            break
        column = [pad if token is None else token for token in tokens]
        made = torch.tensor(column, dtype=input_ids.dtype, device=input_ids.device)
        if streamer is not None:
            streamer.put(made.cpu())
        yield made[:, None]
    if streamer is not None:
        streamer.end()


def _stop_tokens(stopping_criteria: Any) -> list[int]:
    return [
        int(token)
        for criterion in stopping_criteria
        if hasattr(criterion, "eos_token_id")
        for token in criterion.eos_token_id.reshape(-1).tolist()
    ]
