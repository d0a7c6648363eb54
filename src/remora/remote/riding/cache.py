"""A cache of transformers that holds no keys and values: sessions on the server do."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from remora.remote.client.reorder import reorder
from remora.remote.messages import Wanted

if TYPE_CHECKING:
    from remora.remote.client.model import RemoteModel
    from remora.remote.client.session import RemoteSession


class Row:
    """One sequence of a batch: a session, opened when it is first needed.

    Args:
        key: the same for rows that may take each other's places, so that a fleet keeps them on one
            server.
    """

    def __init__(self, model: RemoteModel, key: str) -> None:
        self._model, self._key = model, key
        self._session: RemoteSession | None = None
        self._owed: list[int] = []
        """Tokens that it has yet to read."""
        self.tokens: list[int] = []

    def owe(self, tokens: torch.Tensor) -> None:
        """These are read when something behind them is."""
        self._owed += tokens.tolist()
        self.tokens += tokens.tolist()

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read them now; gives the logits behind the last, (1, 1, vocabulary)."""
        self.owe(tokens)
        owed, self._owed = self._owed, []
        (logits,) = self.session.read(owed, Wanted("full"))
        return logits

    @property
    def session(self) -> RemoteSession:
        """The one on the server."""
        if self._session is None:
            self._session = self._model.session(key=self._key)
        return self._session

    def noted(self) -> tuple[list[int], list[int]]:
        """Its tokens, and those of them that it has yet to read."""
        return list(self.tokens), list(self._owed)

    def note(self, tokens: list[int], owed: list[int]) -> None:
        """As what another has noted, whose place in the text its session has taken."""
        self.tokens, self._owed = list(tokens), list(owed)

    def crop(self, length: int) -> None:
        """Forget all behind the first ``length`` tokens: another session reads those."""
        kept = self.tokens[:length]
        if self._session is not None:
            self._session.close()
            self._session = None
        self._owed, self.tokens = list(kept), kept

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def length_after(cache: Any, crop: int) -> int:
    """Tokens that ``cache.crop(crop)`` leaves: transformers has taken it in both ways."""
    length: int = cache.get_seq_length()
    return min(crop, length) if crop > 0 else length + crop


class RemoteCache:
    """What :func:`remote_cache` makes is one, and a ``Cache`` of transformers as well."""

    rows: list[Row]
    _length: int

    def grow(self, count: int) -> None:
        """So many columns more, padding and all."""
        self._length += count

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length

    def crop(self, max_length: int) -> None:
        """Keep the first ``max_length`` columns; of a negative number or 0, drop so many."""
        length = length_after(self, max_length)
        for row in self.rows:
            row.crop(max(0, len(row.tokens) - (self._length - length)))
        self._length = length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Each row goes on from where the one at its index stands, on the server."""
        sources: list[int] = beam_idx.tolist()
        reorder([row.session for row in self.rows], sources)
        noted = [row.noted() for row in self.rows]
        for row, source in zip(self.rows, sources, strict=True):
            row.note(*noted[source])

    def __del__(self) -> None:
        for row in getattr(self, "rows", []):
            row.close()


@lru_cache(maxsize=1)
def _cache_class() -> Any:
    return type("RemoteCache", (RemoteCache, import_module("transformers").DynamicCache), {})


def remote_cache(rows: list[Row]) -> Any:
    """A cache for those sequences, with nothing read yet."""
    cache = _cache_class()()
    cache.rows, cache._length = rows, 0
    return cache
