"""The next token of a sequence: the likeliest, or one that is drawn."""

from __future__ import annotations

import hashlib
import math

import torch

from remora.core.errors import BadValue
from remora.remote.messages import Draw


def check(draw: Draw | None) -> None:
    """See that ``draw`` can be done.

    Raises:
        BadValue: it cannot.
    """
    if draw is None:
        return
    if not 0 < draw.temperature < math.inf:
        raise BadValue(f"temperature={draw.temperature:g} is none; give a number above 0")
    if draw.top_k < 0:
        raise BadValue(f"top_k={draw.top_k} is none; give 1 or more, or 0 for all tokens")
    if not 0 < draw.top_p <= 1:
        raise BadValue(f"top_p={draw.top_p:g} is none; give a share above 0, up to 1")


def chosen(logits: torch.Tensor, draw: Draw | None, position: int) -> int:
    """The token that stands at ``position`` of a text, by its ``logits`` (vocabulary).

    What is drawn depends on the logits, the seed and the position, and on nothing that was drawn
    before: a text that is read again after its server was lost goes on as it would have.
    """
    if draw is None:
        return int(logits.argmax())
    scaled = logits.float() / draw.temperature
    values, tokens = scaled.sort(descending=True, stable=True)
    if draw.top_k:
        values, tokens = values[: draw.top_k], tokens[: draw.top_k]
    shares = values.softmax(-1).double().cumsum(-1)
    kept = _within(shares, draw.top_p)
    point = _uniform(draw.seed, position) * float(shares[kept - 1])
    index = int(torch.searchsorted(shares[:kept], point, right=True))
    return int(tokens[min(index, kept - 1)])


def _within(shares: torch.Tensor, top_p: float) -> int:
    """How many of the likeliest together reach ``top_p`` (Holtzman et al. 2020, section 3.1)."""
    if top_p >= 1:
        return shares.shape[0]
    return min(int((shares < top_p).sum()) + 1, shares.shape[0])


def _uniform(seed: int, position: int) -> float:
    """A number from 0 up to 1, the same for the same two (counter-based: Salmon et al. 2011)."""
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
