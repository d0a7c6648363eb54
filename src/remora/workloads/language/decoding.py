"""Greedy decoding with a cache of keys and values."""

from __future__ import annotations

import torch

from remora.workloads.contract import Outcome, Session, Work


class DecodeSession(Session):
    """Decodes ``new_tokens`` greedily after a prompt that was read once, when it was built.

    Every step crops the cache back to the prompt, so that all steps do equal work. The outcome is
    the new token ids (batch, new_tokens).
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
    ) -> None:
        self.model = model.eval()
        self.device = device
        self.work = work
        self._new_tokens = new_tokens
        self._prompt_length = prompt.shape[1]
        with torch.no_grad():
            read = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        self._cache = read.past_key_values
        self._first = read.logits[:, -1:].argmax(-1)

    @torch.no_grad()
    def step(self) -> Outcome:
        self._cache.crop(self._prompt_length)
        token = self._first
        decoded = []
        for _ in range(self._new_tokens):
            answer = self.model(input_ids=token, past_key_values=self._cache, use_cache=True)
            token = answer.logits[:, -1:].argmax(-1)
            decoded.append(token)
        return Outcome(torch.cat(decoded, dim=1))
