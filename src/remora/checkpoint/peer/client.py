"""A shelf in a peer's memory: ``peer://host:7718/run?token_file=F&ca_file=F``."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from remora.checkpoint.peer import frames
from remora.checkpoint.peer.channel import TIMEOUT_S, Channel, parse_address
from remora.checkpoint.peer.frames import AnyMessage, ProtocolError, Refused, VersionDiffers
from remora.checkpoint.peer.token import new_nonce, prove, proven
from remora.checkpoint.tiers.contract import PIECE_BYTES, Copy, Owner, Part, Shelf, Unowned, check
from remora.core.errors import BadValue, CheckpointUnusable, FolderInUse
from remora.core.token import read_token

_OPTIONS = ("token_file", "ca_file")
M = TypeVar("M", bound=frames.Message)


class PeerShelf(Shelf):
    """What the peer at ``url`` holds for one run. A connection is made for each put, and kept
    while a copy is read; a peer that was restarted is found again with the next call.

    Args:
        timeout_s: how long to wait for a peer that says nothing.

    Raises:
        BadValue: ``url`` is none, or one of its files cannot be read.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        split = urlsplit(url)
        self._host, self._port = parse_address(split.netloc)
        self._name = split.path.strip("/")
        options = dict(parse_qsl(split.query, keep_blank_values=True))
        if not 0 < len(self._name) <= frames.MAX_NAME or options.keys() - set(_OPTIONS):
            raise BadValue(
                f"{url!r} does not name a run at a peer; write peer://host:7718/run, "
                f"with ?{'= or ?'.join(_OPTIONS)}= where needed"
            )
        self.place = f"peer://{split.netloc}/{self._name}"
        token_file = options.get("token_file")
        self._token = read_token(Path(token_file)) if token_file else None
        self._tls = _tls(options.get("ca_file"))
        self._timeout_s = timeout_s
        self._session = ""
        self._reading: Channel | None = None
        self._guard = threading.Lock()

    # ------------------------------------------------------------ the shelf

    def owner(self) -> Owner | None:
        with self._connected() as channel:
            return _ask(channel, frames.AskOwner(), frames.OwnerIs).owner

    def claim(self, run: str, who: str) -> Owner:
        with self._connected() as channel:
            owner = _ask(channel, frames.Claim(run, who), frames.OwnerIs).owner
        if owner is None:
            raise ProtocolError("the peer did not say who owns the place now")
        return owner

    def copies(self) -> list[Copy]:
        with self._connected() as channel:
            copies = _ask(channel, frames.AskCopies(), frames.Copies).copies
        try:
            return [check(copy) for copy in copies]
        except ValueError as error:
            raise ProtocolError(f"the peer lists what is no copy: {error}") from None

    def put(self, copy: Copy, parts: Sequence[Part]) -> None:
        with self._connected() as channel:
            if _ask(channel, frames.Begin(copy), frames.Ready).there:
                return
            try:
                for number, pieces in enumerate(parts):
                    offset = 0
                    for piece in pieces:
                        channel.send(frames.Piece(number, offset), piece)
                        offset += len(piece)
                _ask(channel, frames.Commit(), frames.Done)
            except ConnectionError as error:
                raise _last_words(channel) or error from None

    def retain(self, keep: int) -> None:
        with self._connected() as channel:
            _ask(channel, frames.Retain(keep), frames.Done)

    def pread(self, copy: Copy, part: int, buffer: memoryview, offset: int) -> int:
        count = min(len(buffer), PIECE_BYTES, max(copy.sizes[part] - offset, 0))
        if count == 0:
            return 0
        with self._guard:
            if self._reading is None:
                self._reading = self._connect()
            try:
                self._reading.send(frames.Read(copy, part, offset, count))
                answer = self._reading.receive(lambda said, _: _room(said, buffer[:count]))
            except BaseException:  # the next read begins with a connection of its own
                self._reading.close()
                self._reading = None
                raise
        _expect(answer, frames.Data)
        return count

    def close(self) -> None:
        with self._guard:
            if self._reading is not None:
                self._reading.close()
                self._reading = None

    # ------------------------------------------------------------ connecting

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Channel]:
        channel = self._connect()
        try:
            yield channel
        finally:
            channel.close()

    def _connect(self) -> Channel:
        try:
            connection = socket.create_connection((self._host, self._port), self._timeout_s)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                error.errno or errno.EIO, f"no answer from {self.place}: {reason}"
            ) from None
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._host)
            channel = Channel(connection, self._timeout_s)
            self._greet(channel)
        except BaseException:
            connection.close()
            raise
        return channel

    def _greet(self, channel: Channel) -> None:
        try:
            challenge = _expect(channel.receive(), frames.Challenge)
        except VersionDiffers as error:
            raise CheckpointUnusable(
                f"{self.place}: {error.strerror or error}; install the same Remora on both"
            ) from None
        if challenge.token_wanted and self._token is None:
            raise CheckpointUnusable(f"{self.place} wants a token; add ?token_file=FILE to the URL")
        if self._token is not None and not challenge.token_wanted:
            raise CheckpointUnusable(
                f"{self.place} knows no token; start it with --token-file, or leave it out here too"
            )
        nonce = new_nonce()
        said = (challenge.nonce, nonce, self._name)
        proof = prove(self._token, "job", *said)
        welcome = _ask(channel, frames.Hello(self._name, nonce, proof), frames.Welcome)
        if not proven(welcome.proof, prove(self._token, "peer", *said)):
            raise CheckpointUnusable(f"{self.place} does not know the token; is it the right peer?")


def _ask(channel: Channel, message: AnyMessage, kind: type[M]) -> M:
    channel.send(message)
    return _expect(channel.receive(), kind)


def _expect(answer: AnyMessage, kind: type[M]) -> M:
    if isinstance(answer, Refused):
        raise _refusal(answer)
    if not isinstance(answer, kind):
        raise ProtocolError(f"a {kind.__name__} was due, and a {type(answer).__name__} came")
    return answer


def _refusal(answer: Refused) -> Exception:
    match answer.kind:
        case "owner":
            return FolderInUse(answer.reason)
        case "unowned":
            return Unowned(errno.ESTALE, answer.reason)
        case "token":
            return CheckpointUnusable(answer.reason)
        case "memory":
            return OSError(errno.ENOMEM, answer.reason)
        case "gone":
            return FileNotFoundError(errno.ENOENT, answer.reason)
        case "protocol":
            return ProtocolError(errno.EPROTO, answer.reason)


def _last_words(channel: Channel) -> Exception | None:
    """Why the peer closed the connection, if it said so."""
    try:
        answer = channel.receive()
    except OSError:
        return None
    return _refusal(answer) if isinstance(answer, Refused) else None


def _room(said: AnyMessage, room: memoryview) -> memoryview:
    return room if isinstance(said, frames.Data) else room[:0]


def _tls(ca_file: str | None) -> ssl.SSLContext | None:
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadValue(f"certificate file {ca_file!r} cannot be used: {error}") from None
