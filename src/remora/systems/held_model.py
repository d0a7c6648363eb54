"""A model held in another process by a framework that calls objects there: for RPC and Ray.

Written as their own examples are: an object with methods, each call a round trip, what is large and
stays the same kept in the object.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Read(NamedTuple):
    """What is sent back of a language model's output."""

    logits: torch.Tensor


class HeldModel:
    """The object: a model, and the cache of what it has read."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model: Any = model.eval()
        self._cache: Any = None

    @torch.no_grad()
    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's output; of one that fills a cache the logits, while the cache goes."""
        output = self._model(*args, **kwargs)
        return Read(output.logits) if kwargs.get("use_cache") else output

    @torch.no_grad()
    def read(self, tokens: torch.Tensor) -> int:
        """Read ``tokens`` (1, count) behind what was read; the token after them."""
        output = self._model(
            input_ids=tokens, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = output.past_key_values
        return int(output.logits[0, -1].argmax())

    def forget(self, count: int) -> None:
        """Forget the last ``count`` tokens."""
        self._cache.crop(-count)
