"""A model held in another process by a framework that calls objects there: for RPC and Ray.

Written as their own examples are: an object with methods, each call a round trip, and what is large
and stays the same kept in the object.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Read(NamedTuple):
    """What is sent back of a language model's output."""

    logits: torch.Tensor


class HeldModel:
    """The object: a model, and the cache of what it has read."""

    def __init__(self, model: torch.nn.Module, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._model: Any = model.eval()
        self._cache: Any = None

    @torch.no_grad()
    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's output; of one that fills a cache the logits, while the cache goes."""
        output = self._model(*args, **kwargs)
        return Read(output.logits) if kwargs.get("use_cache") else output

    @torch.no_grad()
    def read(self, held: int, tokens: list[int]) -> int:
        """Read ``tokens`` behind the first ``held`` of what was read; the token after them."""
        if self._cache is not None and self._cache.get_seq_length() > held:
            self._cache.crop(held - self._cache.get_seq_length())
        ids = torch.tensor([tokens])
        output = self._model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = output.past_key_values
        return int(output.logits[0, -1].argmax())

    def decode(self, held: int, token: int, count: int) -> list[int]:
        """The ``count`` tokens behind ``token``, which comes behind the first ``held``."""
        tokens = [token]
        for done in range(count):
            tokens.append(self.read(held + done, tokens[-1:]))
        return tokens[1:]
