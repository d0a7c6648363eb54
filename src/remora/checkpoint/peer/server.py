"""The process that holds checkpoints for jobs on other machines: ``remora checkpoint hold``."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from remora.checkpoint.peer import frames
from remora.checkpoint.peer.channel import TIMEOUT_S, Channel, is_loopback, parse_address
from remora.checkpoint.peer.frames import AnyMessage, ProtocolError, Refused
from remora.checkpoint.peer.memory import Gone, Held, Memory, NoRoom
from remora.checkpoint.peer.token import new_nonce, prove, proven
from remora.checkpoint.tiers.contract import PIECE_BYTES, Unowned
from remora.core.errors import BadValue, FolderInUse

MAX_CONNECTIONS = 64
"""At once; a job uses one or two, and each may hold a piece's worth of memory."""


class PeerServer:
    """Holds copies in memory, for as long as it lives.

    Args:
        listen: ``host:port``; port 0 for any.
        memory_bytes: for all copies together.
        token: what jobs must know; demanded where ``listen`` is not loopback.
        tls: with a certificate, where connections are to be encrypted.
        timeout_s: how long to wait for a job that says nothing.

    Raises:
        BadValue: ``listen`` is no address, or is not loopback and there is no token.
        OSError: it cannot be listened on.
    """

    def __init__(
        self,
        listen: str,
        memory_bytes: int,
        *,
        token: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        host, port = parse_address(listen)
        if token is None and not is_loopback(host):
            raise BadValue(
                f"{listen} can be reached from other machines: give a --token-file, "
                "or listen on 127.0.0.1"
            )
        self.memory = Memory(memory_bytes)
        self._token, self._tls, self._timeout_s = token, tls, timeout_s
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family)
        self._channels: set[Channel] = set()
        self._guard = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closed = threading.Event()

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        host, port = self._listening.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serve(self) -> None:
        """Accept connections until :meth:`close`, each in a thread of its own."""
        while not self._closed.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                if self._closed.is_set():
                    return
                raise
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._talk, args=(connection,), name="remora-peer", daemon=True
            ).start()

    def close(self) -> None:
        """Hold nothing any more. Calling it twice does no harm."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._guard:
            for channel in self._channels:
                channel.close()

    # ------------------------------------------------------------ one connection

    def _talk(self, connection: socket.socket) -> None:
        try:
            channel = self._opened(connection)
            try:
                _Conversation(channel, self.memory, self._token).run()
            finally:
                with self._guard:
                    self._channels.discard(channel)
                channel.close()
        except OSError:
            pass  # the job is gone, or is none: what it had begun is abandoned
        finally:
            connection.close()
            self._room.release()

    def _opened(self, connection: socket.socket) -> Channel:
        connection.settimeout(self._timeout_s)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        channel = Channel(connection, self._timeout_s)
        with self._guard:
            self._channels.add(channel)
        if self._closed.is_set():
            channel.close()
        return channel


class _Conversation:
    """One job's connection: who it is, then what it asks, one after the other."""

    def __init__(self, channel: Channel, memory: Memory, token: bytes | None) -> None:
        self._channel, self._memory, self._token = channel, memory, token
        self._name = ""
        self._arriving: Held | None = None
        self._piece_bytes = 0

    def run(self) -> None:
        try:
            if self._welcome():
                while True:
                    self._answer(self._channel.receive(self._place))
        except ProtocolError as error:
            self._abandon()  # before the job hears of it: its memory is free by then
            with contextlib.suppress(OSError):
                self._channel.end_with(Refused("protocol", str(error)))
        finally:
            self._abandon()

    def _abandon(self) -> None:
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            self._memory.abandon(self._name, arriving)

    def _welcome(self) -> bool:
        nonce = new_nonce()
        self._channel.send(frames.Challenge(nonce, self._token is not None))
        hello = self._channel.receive()
        if not isinstance(hello, frames.Hello) or len(hello.nonce) != frames.NONCE_BYTES:
            raise ProtocolError("a Hello is due first")
        if not 0 < len(hello.name) <= frames.MAX_NAME:
            raise ProtocolError("the name of the run is empty or too long")
        said = (nonce, hello.nonce, hello.name)
        if not proven(hello.proof, prove(self._token, "job", *said)):
            self._channel.send(Refused("token", "the peer wants another token"))
            return False
        self._name = hello.name
        self._channel.send(frames.Welcome(prove(self._token, "peer", *said)))
        return True

    def _place(self, message: AnyMessage, count: int) -> memoryview:
        """Where a payload goes: straight to where the copy lies."""
        if not isinstance(message, frames.Piece):
            return memoryview(b"")
        if self._arriving is None:
            raise ProtocolError("a piece came, but no copy was begun")
        self._piece_bytes = count
        try:
            return self._arriving.room(message.part, message.offset, count)
        except ValueError as error:
            raise ProtocolError(str(error)) from None

    def _answer(self, message: AnyMessage) -> None:
        try:
            self._do(message)
        except FolderInUse as error:
            self._channel.send(Refused("owner", str(error)))
        except Unowned as error:
            self._channel.send(Refused("unowned", str(error)))
        except NoRoom as error:
            self._channel.send(Refused("memory", str(error)))
        except Gone as error:
            self._channel.send(Refused("gone", str(error)))
        except ValueError as error:
            raise ProtocolError(str(error)) from None

    def _do(self, message: AnyMessage) -> None:
        memory, name, send = self._memory, self._name, self._channel.send
        match message:
            case frames.AskOwner():
                send(frames.OwnerIs(memory.owner(name)))
            case frames.Claim(run, who):
                send(frames.OwnerIs(memory.claim(name, run[:64], who[:256])))
            case frames.AskCopies():
                send(frames.Copies(memory.copies(name)))
            case frames.Begin(copy):
                self._arriving = memory.begin(name, copy)
                send(frames.Ready(self._arriving is None))
            case frames.Piece():
                self._received(message)
            case frames.Commit():
                self._commit()
            case frames.Retain(keep):
                memory.retain(name, keep)
                send(frames.Done())
            case frames.Read(copy, part, offset, count):
                count = min(max(count, 0), PIECE_BYTES)
                with memory.reading(name, copy, part, offset, count) as data:
                    send(frames.Data(), data)
            case _:
                raise ProtocolError(f"{type(message).__name__} is nothing to ask a peer")

    def _received(self, piece: frames.Piece) -> None:
        if self._arriving is None:
            raise ProtocolError("a piece came, but no copy was begun")
        self._arriving.arrived(piece.part, self._piece_bytes)

    def _commit(self) -> None:
        if self._arriving is None:
            raise ProtocolError("there is nothing to commit")
        self._memory.commit(self._name, self._arriving)
        self._arriving = None
        self._channel.send(frames.Done())
