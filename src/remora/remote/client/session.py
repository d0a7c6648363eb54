"""A session with a language model: tokens go and come, all else stays on the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from remora.core.errors import BadValue, Full, RemoteError, ServerLost, SessionLost
from remora.remote.client.graphs import OnServer
from remora.remote.client.kept import RemoteTensor
from remora.remote.messages import (
    Close,
    Draw,
    Generate,
    Open,
    Prefill,
    Profile,
    Reorder,
    Rewind,
    Tokens,
    Wanted,
)
from remora.remote.wire.channel import Channel

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer

ATTEMPTS = 5
"""How often in a row what was lost with its server is made again before that is an error."""

_NOTHING = Wanted("nothing")

Ids = torch.Tensor | Sequence[int]


Context = Callable[[Channel], Sequence[RemoteTensor]]
"""Has made, over a connection, what a decoder is given beside tokens and state."""


def no_context(channel: Channel) -> Sequence[RemoteTensor]:
    """Of a decoder that is given nothing else."""
    return ()


class RemoteSession:
    """One sequence on a server. A context manager that closes it; one request at a time.

    Every token that went or came is noted here. When the server is lost, or holds the session no
    longer, another session reads them again, and the tokens go on as if nothing had been. Of a
    fleet, a server without room for what is to be read gives the session up to the next that has.

    Args:
        channel: where it is opened; the server's own connection by default.

    Raises:
        Full: there is no room for it, on any server of a fleet.
    """

    def __init__(
        self,
        server: RemoteServer,
        model: OnServer,
        *,
        context: Context = no_context,
        deadline_s: float | None,
        channel: Channel | None = None,
    ) -> None:
        self._server, self._model, self._deadline_s = server, model, deadline_s
        self._context = context
        self._tokens: list[int] = []
        self._channel, self._name = channel or server.channel, ""
        self._closed = self._is_ahead = False
        """Ahead is the server where tokens that it decoded were not taken."""
        self.lease_s = 0.0
        """How long the server keeps it without its being used."""
        self.profiles: list[Profile] = []
        """Of the tokens of the latest :meth:`generate` with ``profiled``."""
        self.recoveries = 0
        """How often its tokens had to be read again."""
        self._start()

    def prefill(self, ids: Ids) -> None:
        """Read token ids, (tokens) or (1, tokens), behind what was read and generated before.

        Raises:
            BadValue: they are none, or ids of no token.
            Full: there is no room for them, on any server of a fleet.
            SessionLost: this session was closed.
            ServerLost, DeadlineExceeded: no answer came.
        """
        self.read(ids, _NOTHING)

    def read(self, ids: Ids | None, wanted: Wanted) -> list[torch.Tensor]:
        """As :meth:`prefill`, with what is ``wanted`` of the logits behind the last token.

        None reads nothing but the newest token that was generated.
        """
        self._begin()
        tokens = torch.empty(1, 0, dtype=torch.int64) if ids is None else _as_tensor(ids)
        read: list[torch.Tensor] = self._again(lambda: self._prefill(tokens, wanted))
        self._tokens += tokens[0].tolist()
        return read

    def generate(
        self,
        count: int,
        *,
        stop: Sequence[int] = (),
        draw: Draw | None = None,
        profiled: bool = False,
    ) -> Iterator[int]:
        """The next ``count`` tokens as they are decoded, fewer where one of ``stop`` comes, which
        is the last then. Leaving early ends the decoding.

        Args:
            draw: how each is drawn; None takes the likeliest. With the same seed the same tokens
                come, also from another server after the first was lost.

        Raises:
            BadValue: nothing was read yet, ``count`` is no number of tokens, or ``draw`` cannot be
                done.
            SessionLost: this session was closed.
            ServerLost, DeadlineExceeded: no more came.
        """
        self._begin()
        if count < 1:
            raise BadValue(f"generate({count}) asks for no token; ask for 1 or more")
        self.profiles = []
        return self._generated(Generate("", count, tuple(stop), profiled, draw))

    def rewind(self, count: int) -> None:
        """Forget all but the first ``count`` tokens that were read or generated.

        Raises:
            BadValue: there are not so many, or none would be left.
        """
        self._begin()
        if not 1 <= count <= len(self._tokens):
            raise BadValue(
                f"this session has {len(self._tokens)} tokens; it cannot go back to {count}"
            )
        del self._tokens[count:]
        self._to_what_is_noted()

    @property
    def tokens(self) -> list[int]:
        """All that were read or generated, in order."""
        return list(self._tokens)

    def settle(self) -> None:
        """Have the server hold what is noted here, and no more.

        Raises:
            SessionLost: this session was closed.
        """
        self._begin()

    def lead(self, sessions: Sequence[RemoteSession], sources: Sequence[int]) -> bool:
        """Ask for it that each of ``sessions``, of which this is one, goes on where its source is;
        False where they are on several connections.
        """
        if any(session._channel is not self._channel for session in sessions):
            return False
        request = Reorder(tuple(session._name for session in sessions), tuple(sources))
        self._channel.call(request, deadline_s=self._deadline_s)
        return True

    def followed(self, tokens: list[int]) -> None:
        """The server holds it with these ``tokens`` now."""
        self._tokens = list(tokens)

    def begin_anew(self, tokens: list[int]) -> None:
        """Read ``tokens`` from the first on, instead of what was read before."""
        with suppress(RemoteError):
            self._channel.call(Close(self._name), deadline_s=self._deadline_s)
        self._tokens = list(tokens)
        self._start()

    def close(self) -> None:
        """Free what the server holds of it. May be called again, and when the server is gone."""
        if not self._closed:
            self._closed = True
            self._close_at(self._channel, self._name)

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _generated(self, asked: Generate) -> Iterator[int]:
        self._is_ahead, count = True, asked.count
        while count > 0:
            request = msgspec.structs.replace(asked, session=self._name, count=count)
            try:
                for arrived in self._channel.stream(request, deadline_s=self._deadline_s):
                    count -= len(arrived.message.ids)
                    yield from self._noted(arrived.message)
                break
            except (ServerLost, SessionLost) as error:
                self._recover(error)
        self._is_ahead = False

    # ------------------------------------------------- what is lost is made again

    def _again(self, action: Callable[[], Any]) -> Any:
        """Do it, if need be on another session that has read the same."""
        attempts, full = ATTEMPTS, dict[str, Full]()
        while True:
            try:
                return action()
            except (ServerLost, SessionLost) as error:
                attempts -= 1
                self._recover(error)
                if not attempts:
                    raise
            except Full as error:
                full[self._channel.name] = error
                self._move(full)
                self.recoveries += 1

    def _move(self, full: dict[str, Full]) -> None:
        """Go on at another server than those that are ``full``, each of which is asked once."""
        before = self._channel, self._name
        try:
            while True:
                self._channel, self._name = self._server.elsewhere(full), ""
                try:
                    self._open_and_read()
                    break
                except Full as error:
                    full[self._channel.name] = error
        except BaseException:
            self._channel, self._name = before
            raise
        self._close_at(*before)

    def _recover(self, error: ServerLost | SessionLost) -> None:
        """Another session that has read every token noted, over a connection that is there."""
        if self._closed:
            raise error
        self.recoveries += 1
        for _ in range(ATTEMPTS):
            if isinstance(error, ServerLost):  # one that stays away is not waited for again
                self._channel = self._server.renewed(self._channel, error)
            try:
                self._open_and_read()
            except Full as full:
                self._move({self._channel.name: full})
            except (ServerLost, SessionLost) as again:
                error = again
                continue
            return
        raise error

    def _start(self) -> None:
        try:
            self._open_and_read()
        except (ServerLost, SessionLost) as error:
            self._recover(error)
        except Full as error:
            self._move({self._channel.name: error})

    def _open_and_read(self) -> None:
        self._open()
        if self._tokens:
            self._prefill(_as_tensor(self._tokens))

    def _open(self) -> None:
        name = self._model.name_over(self._channel)
        kept = self._context(self._channel)
        request = Open(name, tuple(tensor.number for tensor in kept))
        opened = self._channel.call(request, deadline_s=self._deadline_s).message
        for tensor in kept:
            tensor.number = 0  # the session's from here on
        self._name, self.lease_s = opened.session, opened.lease_s

    def _close_at(self, channel: Channel, name: str) -> None:
        if name:
            with suppress(RemoteError):
                channel.call(Close(name), deadline_s=self._deadline_s)

    def _prefill(self, tokens: torch.Tensor, wanted: Wanted = _NOTHING) -> list[torch.Tensor]:
        request = Prefill(self._name, wanted=wanted)
        return self._channel.call(request, [tokens], deadline_s=self._deadline_s).tensors

    def _noted(self, tokens: Tokens) -> tuple[int, ...]:
        self._tokens += tokens.ids
        if tokens.profile is not None:
            self.profiles.append(tokens.profile)
        return tokens.ids

    def _begin(self) -> None:
        if self._closed:
            raise SessionLost("this session is closed; open another with model.session()")
        if self._is_ahead and self._tokens:
            self._to_what_is_noted()

    def _to_what_is_noted(self) -> None:
        """The server forgets what it holds beyond the tokens noted here."""
        request = Rewind(self._name, len(self._tokens) - 1, self._tokens[-1])
        with suppress(ServerLost, SessionLost):  # one that is made again reads those only
            self._channel.call(request, deadline_s=self._deadline_s)
        self._is_ahead = False


def _as_tensor(ids: Ids) -> torch.Tensor:
    tensor = ids if isinstance(ids, torch.Tensor) else torch.tensor(ids)
    if not tensor.numel():
        raise BadValue("there are no tokens to read; give at least one")
    if tensor.dtype not in (torch.int64, torch.int32) or tensor.dim() > 2:
        raise BadValue(
            f"token ids are {str(tensor.dtype)[6:]} {list(tensor.shape)}; "
            "give whole numbers of shape (tokens) or (1, tokens)"
        )
    return tensor.to("cpu", torch.int64).reshape(1, -1) if tensor.dim() < 2 else tensor.long().cpu()
