"""A session with a language model: tokens go and come, all else stays on the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from remora.core.errors import BadValue, RemoteError, SessionLost
from remora.remote.messages import Close, Generate, Open, Prefill, Profile, Tokens

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer

Ids = torch.Tensor | Sequence[int]


class RemoteSession:
    """One sequence on a server. A context manager that closes it; one request at a time."""

    def __init__(
        self,
        server: RemoteServer,
        model: str,
        *,
        context: Sequence[torch.Tensor] = (),
        deadline_s: float | None,
    ) -> None:
        self._server, self._deadline_s = server, deadline_s
        opened = server.channel.call(Open(model), context, deadline_s=deadline_s).message
        self._name: str | None = opened.session
        self.lease_s: float = opened.lease_s
        """How long the server keeps it without its being used."""
        self.profiles: list[Profile] = []
        """Of the tokens of the latest :meth:`generate` with ``profiled``."""

    def prefill(self, ids: Ids) -> None:
        """Read token ids, (tokens) or (1, tokens), behind what was read and generated before.

        Raises:
            BadValue: they are none, or ids of no token.
            SessionLost: the session was closed, or the server holds it no longer.
        """
        message = Prefill(self._named())
        self._server.channel.call(message, [_as_tensor(ids)], deadline_s=self._deadline_s)

    def generate(
        self, count: int, *, stop: Sequence[int] = (), profiled: bool = False
    ) -> Iterator[int]:
        """The next ``count`` tokens, the likeliest each, as they are decoded; fewer where one of
        ``stop`` comes, which is the last then. Leaving early ends the decoding.

        Raises:
            BadValue: nothing was read yet, or ``count`` is no number of tokens.
            SessionLost, ServerLost, DeadlineExceeded: they come no more.
        """
        message = Generate(self._named(), count, tuple(stop), profiled)
        answers = self._server.channel.stream(message, deadline_s=self._deadline_s)
        return self._tokens(answers)

    def close(self) -> None:
        """Free what the server holds of it. May be called again, and when the server is gone."""
        if self._name is not None:
            name, self._name = self._name, None
            try:
                self._server.channel.call(Close(name), deadline_s=self._deadline_s)
            except RemoteError:
                return

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tokens(self, answers: Iterator[object]) -> Iterator[int]:
        self.profiles = []
        for arrived in answers:
            tokens: Tokens = arrived.message  # type: ignore[attr-defined]
            if tokens.profile is not None:
                self.profiles.append(tokens.profile)
            yield from tokens.ids

    def _named(self) -> str:
        if self._name is None:
            raise SessionLost("this session is closed; open another with model.session()")
        return self._name


def _as_tensor(ids: Ids) -> torch.Tensor:
    tensor = ids if isinstance(ids, torch.Tensor) else torch.tensor(ids)
    if tensor.dtype not in (torch.int64, torch.int32) or tensor.dim() > 2:
        raise BadValue(
            f"token ids are {str(tensor.dtype)[6:]} {list(tensor.shape)}; "
            "give whole numbers of shape (tokens) or (1, tokens)"
        )
    return tensor.to("cpu", torch.int64).reshape(1, -1) if tensor.dim() < 2 else tensor.long().cpu()
