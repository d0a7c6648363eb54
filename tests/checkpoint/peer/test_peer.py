"""A job and its peer over real sockets: strangers, silence, tokens, versions, encryption."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.checkpoint.shelves import peer

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.peer import frames
from remora.checkpoint.peer.channel import Channel, is_loopback, parse_address
from remora.checkpoint.peer.client import PeerShelf
from remora.checkpoint.peer.server import MAX_CONNECTIONS, PeerServer
from remora.checkpoint.peer.token import new_nonce, prove
from remora.checkpoint.tiers.contract import Copy, Owner
from remora.core.errors import BadValue, CheckpointUnusable, FolderInUse
from remora.core.token import read_token

RUN = "0123456789abcdef"
TOKEN = b"a token of some length"


def shelf(
    server: PeerServer, name: str = "run", query: str = "", timeout_s: float = 5
) -> PeerShelf:
    return PeerShelf(f"peer://{server.address}/{name}{query}", timeout_s=timeout_s)


def copy_of(owner: Owner, sequence: int, size: int = 5000) -> Copy:
    entry = Entry(sequence, sequence, 0, 1, 1, bytes(16), 0)
    return Copy(owner.generation, owner.session, entry, (size,))


def put(one: PeerShelf, sequence: int, size: int = 5000) -> Copy:
    owner = one.claim(RUN, "me")
    copy = copy_of(owner, sequence, size)
    one.put(copy, [[memoryview(bytes(size))]])
    return copy


@contextlib.contextmanager
def raw(server: PeerServer) -> Iterator[Channel]:
    channel = Channel(socket.create_connection(parse_address(server.address)), 5)
    with contextlib.closing(channel):
        yield channel


@contextlib.contextmanager
def welcomed(server: PeerServer) -> Iterator[Channel]:
    with raw(server) as channel:
        channel.receive()
        channel.send(frames.Hello("run", new_nonce(), b""))
        assert isinstance(channel.receive(), frames.Welcome)
        yield channel


# ---------------------------------------------------------------- strangers and mistakes


@pytest.mark.parametrize(
    "garbage",
    [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"RMRP" + b"\xff" * 60],
    ids=["nothing", "http", "zeros", "ours at first"],
)
def test_garbage_ends_its_own_connection_alone(garbage: bytes) -> None:
    with peer() as server:
        with socket.create_connection(parse_address(server.address)) as stranger:
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(1000):
                    pass
        assert put(shelf(server), 1).entry.step == 1


@pytest.mark.parametrize(
    "message",
    [
        frames.Hello("again", bytes(32), b""),
        frames.Commit(),
        frames.Piece(0, 0),
        frames.Done(),
        frames.Begin(Copy(0, "../x", Entry(1, 1, 0, 1, 1, bytes(16), 0), (5,))),
        frames.Begin(Copy(0, "x", Entry(1, 1, 0, 1, 1, bytes(16), 0), (-5,))),
    ],
    ids=lambda message: f"{type(message).__name__}",
)
def test_what_makes_no_sense_is_refused_and_ends_the_connection(message: frames.AnyMessage) -> None:
    with peer() as server:
        with welcomed(server) as channel:
            channel.send(message)
            answer = channel.receive()
            assert isinstance(answer, frames.Refused)
            assert answer.kind == "protocol"
            with pytest.raises(OSError):
                channel.receive()
        assert put(shelf(server), 1).entry.step == 1


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_a_name_has_its_bounds(name: str) -> None:
    with peer() as server, raw(server) as channel:
        channel.receive()
        channel.send(frames.Hello(name, new_nonce(), b""))
        assert isinstance(channel.receive(), frames.Refused)


def test_more_than_was_announced_is_refused() -> None:
    with peer() as server:
        one = shelf(server)
        copy = copy_of(one.claim(RUN, "me"), 1)
        with pytest.raises(OSError, match="more bytes came than were announced"):
            one.put(copy, [[memoryview(bytes(5001))]])
        assert one.copies() == []
        assert server.memory.used == 0


def test_a_full_peer_says_so_and_keeps_what_it_has() -> None:
    with peer(memory_bytes=12_000) as server:
        one = shelf(server)
        first = put(one, 1)
        with pytest.raises(OSError, match="do not fit"):
            put(one, 2, 9000)
        assert one.copies() == [first]


def test_runs_do_not_see_each_other() -> None:
    with peer() as server:
        one, other = shelf(server, "one"), shelf(server, "other")
        put(one, 1)
        assert other.copies() == []
        with pytest.raises(FolderInUse, match="another run, last written by me"):
            shelf(server, "one").claim("f" * 16, "you")
        other.claim("f" * 16, "you")


def test_too_many_connections_are_turned_away_until_some_end() -> None:
    with peer() as server, contextlib.ExitStack() as held:
        for _ in range(MAX_CONNECTIONS):
            held.enter_context(welcomed(server))
        with pytest.raises(OSError):
            shelf(server).owner()
        held.close()
        for _ in range(200):
            with contextlib.suppress(OSError):
                shelf(server).owner()
                return
    pytest.fail("nobody is let in any more")


# ---------------------------------------------------------------- silence


def test_a_peer_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = PeerShelf(f"peer://127.0.0.1:{silent.getsockname()[1]}/run", timeout_s=0.1)
        with pytest.raises(TimeoutError):
            one.owner()


def test_a_job_that_says_nothing_more_gives_its_room_back() -> None:
    with peer(timeout_s=0.2) as server:
        owner = shelf(server).claim(RUN, "me")
        with welcomed(server) as channel:
            channel.send(frames.Begin(copy_of(owner, 1, 2**20)))
            assert channel.receive() == frames.Ready(False)
            channel.send(frames.Piece(0, 0), memoryview(bytes(1000)))
            assert server.memory.used == 2**20
            with pytest.raises(OSError):
                while True:
                    channel.receive()
        assert server.memory.used == 0
        assert put(shelf(server), 2).entry.step == 2


def test_a_reader_finds_a_peer_that_was_restarted() -> None:
    with peer() as server:
        one = shelf(server)
        copy = put(one, 1)
        room = memoryview(bytearray(100))
        assert one.pread(copy, 0, room, 0) == 100
        for channel in list(server._channels):
            channel.close()
        with pytest.raises(OSError):
            one.pread(copy, 0, room, 0)
        assert one.pread(copy, 0, room, 0) == 100
        one.close()


def test_several_threads_may_read() -> None:
    with peer() as server:
        one = shelf(server)
        size = 500_000
        copy = copy_of(one.claim(RUN, "me"), 1, size)
        content = bytes(n % 251 for n in range(size))
        one.put(copy, [[memoryview(content)]])
        wrong: list[int] = []

        def read(begin: int) -> None:
            room = memoryview(bytearray(1000))
            for offset in range(begin, size, 4000):
                one.pread(copy, 0, room, offset)
                if room != content[offset : offset + 1000]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(n * 1000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.close()
        assert wrong == []


# ---------------------------------------------------------------- versions


def test_another_version_is_said_to_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                data = bytearray(frames.encode(frames.Challenge(new_nonce(), False)))
                data[4] = 9
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        one = PeerShelf(f"peer://127.0.0.1:{listening.getsockname()[1]}/run")
        with pytest.raises(CheckpointUnusable, match=r"version 9, this one 1; install the same"):
            one.owner()
        thread.join()


def test_another_version_is_said_to_the_peers_side_too() -> None:
    with peer() as server, raw(server) as channel:
        channel.receive()
        data = bytearray(frames.encode(frames.Hello("run", new_nonce(), b"")))
        data[4] = 9
        channel._socket.sendall(data)
        answer = channel.receive()
        assert isinstance(answer, frames.Refused)
        assert "version 9" in answer.reason


def test_a_port_of_something_else_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="is it the right port"):
            PeerShelf(f"peer://127.0.0.1:{listening.getsockname()[1]}/run").owner()
        thread.join()


# ---------------------------------------------------------------- trust


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_bytes(TOKEN + b"\n")
    return file


def test_who_knows_the_token_comes_in(token_file: Path) -> None:
    with peer(token=TOKEN) as server:
        one = shelf(server, query=f"?token_file={token_file}")
        assert one.copies() == []
        put(one, 1)


def test_who_does_not_know_the_token_does_not(token_file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"another token of some length")
    with peer(token=TOKEN) as server:
        with pytest.raises(CheckpointUnusable, match="wants a token; add"):
            shelf(server).copies()
        with pytest.raises(CheckpointUnusable, match="wants another token"):
            shelf(server, query=f"?token_file={wrong}").copies()
    with peer() as server, pytest.raises(CheckpointUnusable, match="knows no token"):
        shelf(server, query=f"?token_file={token_file}").copies()


def test_without_the_token_nothing_can_be_asked() -> None:
    with peer(token=TOKEN) as server, raw(server) as channel:
        channel.receive()
        channel.send(frames.AskCopies())
        assert isinstance(channel.receive(), frames.Refused)
        with pytest.raises(OSError):
            channel.receive()


def test_the_token_never_goes_over_the_wire_and_a_proof_serves_once() -> None:
    with peer(token=TOKEN) as server:
        with raw(server) as channel:
            challenge = channel.receive()
            assert isinstance(challenge, frames.Challenge)
            nonce = new_nonce()
            hello = frames.Hello("run", nonce, prove(TOKEN, "job", challenge.nonce, nonce, "run"))
            assert TOKEN not in frames.encode(hello)
            channel.send(hello)
            assert isinstance(channel.receive(), frames.Welcome)
        with raw(server) as channel:
            channel.receive()
            channel.send(hello)
            answer = channel.receive()
            assert isinstance(answer, frames.Refused)
            assert answer.kind == "token"


def test_a_peer_that_does_not_know_the_token_gets_nothing(token_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            channel = Channel(connection)
            with contextlib.closing(channel):
                channel.send(frames.Challenge(new_nonce(), True))
                hello = channel.receive()
                assert isinstance(hello, frames.Hello)
                channel.send(frames.Welcome(hello.proof))  # the best it can do: send it back

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(CheckpointUnusable, match="does not know the token"):
            PeerShelf(f"peer://{address}/run?token_file={token_file}").owner()
        thread.join()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]", "example.org"])
def test_off_loopback_a_token_is_demanded(host: str) -> None:
    with pytest.raises(BadValue, match="can be reached from other machines: give a --token-file"):
        PeerServer(f"{host}:0", 1000)


def test_off_loopback_with_a_token_is_fine() -> None:
    PeerServer("0.0.0.0:0", 1000, token=TOKEN).close()


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.9.1", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.example", ""]))


@pytest.mark.parametrize("text", ["", "host", ":7718", "host:", "host:x", "host:70000", "host:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_address(text)


def test_a_short_token_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"hunter2\n")
    with pytest.raises(BadValue, match="has 7 characters; write at least 16"):
        read_token(tmp_path / "short")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Self-signed, for 127.0.0.1, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=peer -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {file}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + file.read_bytes())
    return both


def test_with_a_certificate_everything_is_encrypted(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with peer(tls=context) as server:
        one = shelf(server, query=f"?ca_file={certificate}")
        copy = put(one, 1, 3_000_000)
        room = memoryview(bytearray(3_000_000))
        assert one.pread(copy, 0, room, 0) == 3_000_000
        one.close()
        with pytest.raises(OSError):
            shelf(server, timeout_s=1).copies()  # not encrypted
    with peer() as server, pytest.raises(OSError):
        shelf(server, query=f"?ca_file={certificate}").copies()
