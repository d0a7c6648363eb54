"""Greedy decoding behind a prompt, and back to the prompt, as a decoding session does it."""

from __future__ import annotations

from typing import Protocol

import torch

from remora.remote.client.session import RemoteSession
from remora.remote.messages import Wanted
from remora.systems.remote_calls import Keeps, Reader


class Decoding(Protocol):
    """A prompt that has been read."""

    def decode(self, count: int) -> list[int]:
        """The ``count`` tokens behind the first one after the prompt, which is read again."""
        ...


class DecodingThere:
    """In a session on a server: its state stays there."""

    def __init__(self, session: RemoteSession, prompt: torch.Tensor, keeps: Keeps) -> None:
        self._session, self._keeps, self._length = session, keeps, prompt.shape[1]
        session.prefill(prompt)
        list(session.generate(1))

    def decode(self, count: int) -> list[int]:
        self._session.rewind(self._length + 1)
        if self._keeps.selected and self._keeps.streamed:
            return list(self._session.generate(count))
        if self._keeps.selected:
            return [token for _ in range(count) for token in self._session.generate(1)]
        tokens: list[int] = []
        for _ in range(count):
            (logits,) = self._session.read(tokens[-1:] or None, Wanted())
            tokens.append(int(logits.argmax()))
        return tokens


class DecodingHere:
    """Token by token from here, with whatever runs the graph."""

    def __init__(self, reader: Reader, prompt: torch.Tensor) -> None:
        self._reader, self._length = reader, prompt.shape[1]
        self._first = int(reader.read(prompt, Wanted("token")))

    def decode(self, count: int) -> list[int]:
        self._reader.forget(self._length)
        tokens = [self._first]
        for _ in range(count):
            tokens.append(int(self._reader.read(torch.tensor([tokens[-1:]]), Wanted("token"))))
        return tokens[1:]
