"""Greedy decoding behind a prompt, and back to the prompt, as a decoding session does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from remora.remote.messages import Profile, Wanted
from remora.systems.remote_calls import Keeps, Reader
from remora.systems.remote_sessions import DecoderThere

Told = Callable[[], None]
"""Called for each token as it is known here."""


class Decoding(Protocol):
    """A prompt that has been read."""

    def decode(self, count: int, told: Told) -> list[int]:
        """The ``count`` tokens behind the first one after the prompt, which is read again."""
        ...


class DecodingThere:
    """In a session on a server: its state stays there.

    A server that is sent weights or graph with every request cannot go on between requests, so
    each token then is a request.
    """

    def __init__(self, decoder: DecoderThere, prompt: torch.Tensor, keeps: Keeps) -> None:
        self._decoder, self._keeps, self._length = decoder, keeps, prompt.shape[1]
        self._session = decoder.session()
        self._session.prefill(prompt)
        list(self._session.generate(1))

    def decode(self, count: int, told: Told) -> list[int]:
        self._session.rewind(self._length + 1)
        tokens: list[int] = []
        for token in self._tokens(count, tokens):
            tokens.append(token)
            told()
        return tokens

    def _tokens(self, count: int, before: Sequence[int]) -> Iterator[int]:
        if self._keeps.selected and self._keeps.streamed and not self._decoder.sends_again:
            yield from self._session.generate(count)
            return
        choose = self._given if self._keeps.selected else self._chosen_here
        for _ in range(count):
            self._decoder.send_again()
            yield choose(before)

    def profiled(self, count: int) -> Sequence[Profile]:
        """Where ``count`` tokens spend their time on the server."""
        self._session.rewind(self._length + 1)
        list(self._session.generate(count, profiled=True))
        return list(self._session.profiles)

    def _given(self, before: Sequence[int]) -> int:
        (token,) = self._session.generate(1)
        return token

    def _chosen_here(self, before: Sequence[int]) -> int:
        (logits,) = self._session.read(before[-1:] or None, Wanted())
        return int(logits.argmax())


class DecodingHere:
    """Token by token from here, with whatever runs the graph."""

    def __init__(self, reader: Reader, prompt: torch.Tensor) -> None:
        self._reader, self._length = reader, prompt.shape[1]
        self._first = int(reader.read(prompt, Wanted("token")))

    def decode(self, count: int, told: Told) -> list[int]:
        self._reader.forget(self._length)
        tokens = [self._first]
        for _ in range(count):
            tokens.append(int(self._reader.read(torch.tensor([tokens[-1:]]), Wanted("token"))))
            told()
        return tokens[1:]
