"""Greedy decoding with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from remora.workloads.contract import Outcome, Session, Work


class DecodeSession(Session):
    """Decodes ``new_tokens`` greedily after a prompt that was read once, when it was built.

    Every step ends by cropping the cache back to the prompt, so that all steps do equal work. The
    outcome is the new token ids (batch, new_tokens).
    """

    optimizer = None

    def __init__(
        self,
        model: torch.nn.Module,
        prompt: torch.Tensor,
        new_tokens: int,
        *,
        work: Work,
        device: torch.device,
        tokens_argument: str = "input_ids",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """``context`` is passed to the model with every token: what an encoder has read, say."""
        self.model = model.eval()
        self.device = device
        self.work = work
        self.new_tokens = new_tokens
        self._tokens_argument = tokens_argument
        self._context = dict(context or {})
        self.prompt = prompt
        self._read_prompt()

    @torch.no_grad()
    def step(self) -> Outcome:
        token = self._first
        decoded = []
        for _ in range(self.new_tokens):
            token = self._read(token, self._cache).logits[:, -1:].argmax(-1)
            decoded.append(token)
            if token.device.type == "cpu":  # elsewhere it may still be being computed
                self.first_is_known()
        self._cache.crop(-self.new_tokens)
        return Outcome(torch.cat(decoded, dim=1))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As the contract says; the prompt is read again, with the weights loaded."""
        super().load_state(state)
        self._read_prompt()

    @torch.no_grad()
    def _read_prompt(self) -> None:
        read = self._read(self.prompt, None)
        self._cache = read.past_key_values
        self._first = read.logits[:, -1:].argmax(-1)

    def _read(self, tokens: torch.Tensor, cache: Any) -> Any:
        inputs = {self._tokens_argument: tokens, **self._context}
        return self.model(**inputs, past_key_values=cache, use_cache=True)
