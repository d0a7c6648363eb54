"""A server, seen from a program: connect to it, put models on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from remora.core.errors import BadValue, Full, Refused, RemoteError, ServerLost, UnknownName
from remora.core.token import read_token_text
from remora.remote.client.built import Built, recipe_of, weights_of
from remora.remote.client.errors import as_error
from remora.remote.client.graphs import CapturedHere, Graphs
from remora.remote.client.model import RemoteModel
from remora.remote.client.profile import ahead_of
from remora.remote.messages import ClientCounts, Count, Echo, Reply, is_last
from remora.remote.wire.address import with_scheme
from remora.remote.wire.channel import Channel
from remora.remote.wire.connect import connect as connect_link
from remora.remote.wire.counted import Counted
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link
from remora.remote.wire.tls import trusting
from remora.share.policies.contract import Priority

if TYPE_CHECKING:
    from remora.remote.eager.device import Device

_ECHOES = 5
_FIRST_PAUSE_S = 0.05
"""Between two attempts to connect again; doubled each time, up to a second."""


class RemoteServer:
    """A connection to a server, made again when it breaks. Thread-safe; a context manager.

    Args:
        dial: makes a connection.
        address: where to, for messages.
        reconnect_s: how long to try when the connection is lost, before that is an error.
    """

    def __init__(
        self, dial: Callable[[], Channel], address: str, reconnect_s: float = 10.0
    ) -> None:
        self._dial, self.address, self._reconnect_s = dial, address, reconnect_s
        self._guard = threading.Lock()
        self._closed = False
        self._device: Device | None = None
        self._channel = dial()

    @property
    def channel(self) -> Channel:
        """The connection as it is now."""
        return self._channel

    def renewed(self, lost: Channel, error: ServerLost) -> Channel:
        """A connection in place of ``lost``, which ended with ``error``.

        Raises:
            ServerLost: none can be made in the time there is, or this was closed.
            Refused: in all that time the server did not take this client any more.
        """
        until = time.monotonic() + self._reconnect_s
        why: RemoteError = error
        with self._guard:
            pause_s = _FIRST_PAUSE_S
            if self._channel is lost:
                lost.close()
            while self._channel is lost:
                if self._closed or time.monotonic() + pause_s > until:
                    raise why
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 1.0)
                try:
                    self._channel = self._dial()
                except (ServerLost, Refused) as again:
                    why = again  # it may not have seen yet that we are gone, and be full of us
            return self._channel

    def elsewhere(self, full: Mapping[str, Full]) -> Channel:
        """A connection to another server than those that are ``full``, by the channels' names.

        Raises:
            Full: there is none; says what each has said.
        """
        raise next(iter(full.values()))

    def for_key(self, key: str | None) -> RemoteServer:
        """What has this key sees this server, as whatever has none does; see a fleet's."""
        return self

    def load(self, model: torch.nn.Module, *, deadline_s: float | None = None) -> RemoteModel:
        """``model`` on the server. It is captured when it is first called, or first has a session.

        Args:
            deadline_s: how long each call may take; for ever by default.

        Raises:
            BadValue: it is no module.
        """
        if not isinstance(model, torch.nn.Module):
            raise BadValue(f"load() takes a torch.nn.Module, not a {type(model).__name__}")
        return self._model(CapturedHere(model), deadline_s)

    def build(
        self,
        name: str,
        config: Any,
        weights: Mapping[str, torch.Tensor] | Path | str,
        *,
        builder: str = "transformers",
        deadline_s: float | None = None,
    ) -> RemoteModel:
        """A model that the server builds of code that it has, and captures itself.

        The program needs neither the model nor transformers, and spends nothing on capturing.

        Args:
            name: what the builder calls it, such as ``GPT2LMHeadModel``.
            config: plain data, or a config object of transformers.
            weights: tensors by name as in its ``state_dict``, or a .safetensors file or folder.
            builder: ``transformers``, or another that the server was started with.
            deadline_s: how long each call may take; for ever by default.

        Raises:
            BadValue: a config that is no plain data, or weights that cannot be read. What the
                server has against them is said when the model is first called.
        """
        built = Built(recipe_of(builder, name, config), weights_of(weights))
        return self._model(built, deadline_s)

    def _model(self, graphs: Graphs, deadline_s: float | None) -> RemoteModel:
        return RemoteModel(self, graphs, deadline_s=deadline_s)

    def device(self, *, batched: bool = True, deadline_s: float | None = None) -> Device:
        """The server as a device of torch, for what cannot be captured.

        Args:
            batched: whether operators go together when a value is wanted; else each is a round
                trip, as with a driver that is elsewhere.
            deadline_s: how long each answer may take; for ever by default.

        Raises:
            BadValue: the program has such a device already.
        """
        from remora.remote.eager.device import Device  # what it tells torch is not undone

        self._device = Device.on(self, batched=batched, deadline_s=deadline_s)
        return self._device

    def echo(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """``tensors``, back from the server."""
        return self.channel.call(Echo(), tensors).tensors

    def clock_ahead_ns(self) -> int:
        """How far the server's clock is ahead of the one here, by the quickest of a few echoes."""
        clock = self.channel.link.clock
        echoes = []
        for _ in range(_ECHOES):
            asked_ns = clock.wall_ns()
            arrived = self.channel.call(Echo())
            echoes.append(ahead_of(asked_ns, arrived.message.profile, arrived.ended_ns))
        return min(echoes)[1]

    def counts(self) -> Mapping[str, int]:
        """What the server holds, and the bytes that crossed this connection as it counted them."""
        counts: Mapping[str, int] = self.channel.call(Count()).message.counts
        return counts

    def clients(self) -> Sequence[ClientCounts]:
        """What each client was given of the device, on a server with a policy; else none."""
        clients: Sequence[ClientCounts] = self.channel.call(Count()).message.clients
        return clients

    @property
    def counted(self) -> Counted:
        """The bytes that crossed this connection, counted at this end's socket."""
        return self.channel.link.counted

    def close(self) -> None:
        """End the connection. The server frees what only this one held. May be called again."""
        self._leave()
        self.channel.close()

    def _leave(self) -> None:
        """Look for no other connection any more, and have no device of torch."""
        self._closed = True
        if self._device is not None:
            self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connect(
    address: str,
    *,
    token: str | None = None,
    token_file: Path | str | None = None,
    certificate: Path | str | None = None,
    timeout_s: float = 5.0,
    reconnect_s: float = 10.0,
    share: bool = True,
    limits: Limits | None = None,
    priority: Priority | str | None = None,
) -> RemoteServer:
    """Connect to the server at ``address``.

    Args:
        address: ``tcp://host:port`` or ``unix:///path``; ``fleet://host:port`` of several servers.
        token: what the server wants to hear; or ``token_file``, a file that holds it.
        certificate: a PEM file that proves the server, where it speaks TLS.
        timeout_s: for connecting.
        reconnect_s: how long to try again when the connection is lost later. Calls are then made
            again, and sessions read their tokens again, so the program does not notice; 0 makes it
            an error at once.
        share: whether large tensors may go through shared memory where the server is on this
            machine.
        limits: the most that one message from the server may hold.
        priority: ``high`` where somebody waits for the answers, ``best-effort`` for what takes the
            time that others leave. Best effort is what a server with a policy takes a client for
            that says nothing; one without a policy refuses whoever says anything.

    Raises:
        BadValue: an address that is none, or a file that cannot be read.
        UnknownName: another priority.
        ServerLost: nobody answers there.
        Refused: the server does not take this client: its token, its version, its priority.
    """
    said = _checked(priority)
    where = with_scheme(address)
    secret = token or read_token_text(Path(token_file) if token_file is not None else None)
    tls = trusting(certificate)

    def dial(where: str) -> Channel:
        link = connect_link(
            where,
            Reply,
            token=secret,
            timeout_s=timeout_s,
            limits=limits,
            tls=tls,
            share=share,
            priority=said,
        )
        _check_is_server(link, where)
        return Channel(link, is_last=is_last, as_error=as_error, name=f"the server at {where}")

    if where.startswith("fleet://"):
        from remora.remote.fleet.calling import Calling
        from remora.remote.fleet.connect import connect_to_fleet

        return connect_to_fleet(where, Calling(secret, tls, timeout_s), dial, reconnect_s)
    return RemoteServer(lambda: dial(where), where, reconnect_s)


def _checked(priority: str | None) -> str:
    if priority is not None and priority not in tuple(Priority):
        raise UnknownName("priority", str(priority), tuple(Priority))
    return "" if priority is None else str(priority)


def _check_is_server(link: Link, where: str) -> None:
    if link.peer != "remora":
        link.close()
        fleet = where.replace("tcp://", "fleet://")
        raise BadValue(f"at {where} is a fleet's directory, no server; connect to {fleet}")
