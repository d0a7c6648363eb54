"""Transformer-XL: Dai et al. 2019, in plain PyTorch.

Segments of a text are read one after another. Each layer attends to its own segment and to the
hidden states it kept of the segment before (section 3.2); positions are relative (section 3.3);
the large vocabulary is split by frequency (adaptive softmax, Grave et al. 2017) and tied to the
embeddings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import dropout, linear, log_softmax

CLUSTERS = 3
"""Clusters of words beyond the frequent ones."""

Memory = tuple[torch.Tensor, ...]
"""What each layer keeps of the segments before: (batch, memory, width) each."""


@dataclass(frozen=True)
class XlSizes:
    batch: int
    sequence: int
    memory: int
    """Hidden states kept of the segments before."""
    layers: int
    width: int
    heads: int
    head_width: int
    hidden: int
    vocabulary: int
    frequent: int
    """Words the softmax always scores."""
    common: int
    """Where the first of the other clusters of words ends, and the second begins."""
    rare: int
    """Where the second ends; the third goes on to ``vocabulary``."""

    @property
    def bounds(self) -> tuple[int, ...]:
        """The ranks at which the clusters begin and end."""
        return self.frequent, self.common, self.rare, self.vocabulary


class TransformerXl(nn.Module):
    """The model; :meth:`forward` gives the mean negative log likelihood of the next words.

    ``drop`` is the dropout of embeddings, positions and layers; attention weights have none, as in
    the authors' setting for WikiText-103.
    """

    def __init__(self, sizes: XlSizes, drop: float = 0.1) -> None:
        super().__init__()
        self.sizes = sizes
        self.drop = drop
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.content_bias = nn.Parameter(torch.zeros(sizes.heads, sizes.head_width))
        self.position_bias = nn.Parameter(torch.zeros(sizes.heads, sizes.head_width))
        self.layers = nn.ModuleList(_Layer(sizes, drop) for _ in range(sizes.layers))
        self.clusters = nn.Parameter(torch.zeros(CLUSTERS, sizes.width))
        self.word_bias = nn.Parameter(torch.zeros(sizes.vocabulary))
        self.cluster_bias = nn.Parameter(torch.zeros(CLUSTERS))

    def empty_memory(self) -> Memory:
        """Zeros, so that the first segment does as much work as the others."""
        sizes, weight = self.sizes, self.embedding.weight
        shape = (sizes.batch, sizes.memory, sizes.width)
        return tuple(weight.new_zeros(shape) for _ in range(sizes.layers))

    def forward(
        self, words: torch.Tensor, targets: tuple[torch.Tensor, ...], memory: Memory
    ) -> tuple[torch.Tensor, Memory]:
        """``words`` (batch, sequence); ``targets`` as :func:`split_targets` gives them."""
        hidden = self.embedding(words) * math.sqrt(self.sizes.width)
        hidden = dropout(hidden, self.drop, self.training)
        distances = dropout(self._distances(hidden), self.drop, self.training)
        unseen = self._unseen(hidden)
        kept = []
        for layer, before in zip(self.layers, memory, strict=True):
            kept.append(self._keep(before, hidden))
            hidden = layer(hidden, before, distances, unseen, self.content_bias, self.position_bias)
        hidden = dropout(hidden, self.drop, self.training)
        return self._loss(hidden.flatten(0, 1), targets), tuple(kept)

    def _keep(self, before: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([before, hidden.detach()], dim=1)[:, -self.sizes.memory :]

    def _distances(self, hidden: torch.Tensor) -> torch.Tensor:
        """Sinusoids of how far back each key lies, the farthest first: (keys, width)."""
        sizes = self.sizes
        back = torch.arange(sizes.memory + sizes.sequence - 1, -1, -1.0, device=hidden.device)
        half = torch.arange(0, sizes.width, 2.0, device=hidden.device)
        angles = back[:, None] * torch.exp(half * (-math.log(10000.0) / sizes.width))
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _unseen(self, hidden: torch.Tensor) -> torch.Tensor:
        """True where a key lies after the query: (sequence, memory + sequence)."""
        sizes = self.sizes
        ones = torch.ones(
            sizes.sequence, sizes.memory + sizes.sequence, dtype=torch.bool, device=hidden.device
        )
        return ones.triu(1 + sizes.memory)

    def _loss(self, hidden: torch.Tensor, targets: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Adaptive softmax. ``hidden`` (tokens, width)."""
        head_target, *tails = targets
        sizes, words = self.sizes, self.embedding.weight
        head_weight = torch.cat([words[: sizes.frequent], self.clusters])
        head_bias = torch.cat([self.word_bias[: sizes.frequent], self.cluster_bias])
        head = log_softmax(linear(hidden, head_weight, head_bias), dim=-1)
        total = -head.gather(1, head_target[:, None]).sum()
        for (start, end), where, target in zip(
            pairwise(sizes.bounds), tails[::2], tails[1::2], strict=True
        ):
            scores = linear(hidden[where], words[start:end], self.word_bias[start:end])
            total = total - log_softmax(scores, dim=-1).gather(1, target[:, None]).sum()
        return total / hidden.shape[0]


class _Layer(nn.Module):
    """Relative attention over memory and segment, then a feed-forward block; norms after."""

    def __init__(self, sizes: XlSizes, drop: float) -> None:
        super().__init__()
        self.heads, self.head_width, self.drop = sizes.heads, sizes.head_width, drop
        inner = sizes.heads * sizes.head_width
        self.query = nn.Linear(sizes.width, inner, bias=False)
        self.key_value = nn.Linear(sizes.width, 2 * inner, bias=False)
        self.relative = nn.Linear(sizes.width, inner, bias=False)
        self.output = nn.Linear(inner, sizes.width, bias=False)
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.feed_forward = nn.Sequential(
            nn.Linear(sizes.width, sizes.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(sizes.hidden, sizes.width),
            nn.Dropout(drop),
        )
        self.feed_forward_norm = nn.LayerNorm(sizes.width)

    def forward(
        self,
        hidden: torch.Tensor,
        memory: torch.Tensor,
        distances: torch.Tensor,
        unseen: torch.Tensor,
        content_bias: torch.Tensor,
        position_bias: torch.Tensor,
    ) -> torch.Tensor:
        heads = (self.heads, self.head_width)
        query = self.query(hidden).unflatten(-1, heads)
        context = torch.cat([memory, hidden], dim=1)
        key, value = self.key_value(context).unflatten(-1, (2, *heads)).unbind(2)
        relative = self.relative(distances).unflatten(-1, heads)
        content = torch.einsum("bqhd,bkhd->bhqk", query + content_bias, key)
        position = torch.einsum("bqhd,khd->bhqk", query + position_bias, relative)
        scores = (content + relative_shift(position)) / math.sqrt(self.head_width)
        weights = scores.masked_fill(unseen, float("-inf")).softmax(dim=-1)
        attended = torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)
        attended = dropout(self.output(attended), self.drop, self.training)
        hidden = self.attention_norm(hidden + attended)
        result: torch.Tensor = self.feed_forward_norm(hidden + self.feed_forward(hidden))
        return result


def relative_shift(scores: torch.Tensor) -> torch.Tensor:
    """Aligns scores by distance (…, queries, keys) with keys by place (appendix B).

    Row ``i`` of ``queries`` rows moves left by ``queries - 1 - i``; what moves in from the right
    lies after the query, and is masked.
    """
    *outer, queries, keys = scores.shape
    padded = torch.cat([scores.new_zeros(*outer, queries, 1), scores], dim=-1)
    return padded.view(*outer, keys + 1, queries)[..., 1:, :].reshape(scores.shape)


def split_targets(targets: torch.Tensor, sizes: XlSizes) -> tuple[torch.Tensor, ...]:
    """What the adaptive softmax is to predict, worked out before the step.

    ``targets`` (tokens,). Gives the head's target per token, then for each other cluster which
    tokens fall in it, and which of its words each is. Done ahead, so that the step need not ask
    the device how many there are.
    """
    head = targets.clone()
    split: list[torch.Tensor] = []
    for cluster, (start, end) in enumerate(pairwise(sizes.bounds)):
        inside = (targets >= start) & (targets < end)
        head[inside] = sizes.frequent + cluster
        split += [inside.nonzero().flatten(), targets[inside] - start]
    return (head, *split)
