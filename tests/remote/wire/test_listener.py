"""Coming in: the handshake, tokens, certificates, strangers, and servers that are full."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import Echo, Requests, is_last, within

from remora.core.errors import BadValue, Refused, ServerLost
from remora.remote.wire.address import TcpAddress, UnixAddress
from remora.remote.wire.channel import Channel
from remora.remote.wire.frames import Kind, pack
from remora.remote.wire.listener import Certificate, Listener

Serve = Callable[..., Served]


def asks(served: Served, **options: object) -> None:
    """A client comes in and is answered."""
    with Channel(served.link(**options), is_last=is_last) as channel:
        assert channel.call(Echo("x")).message == Echo("x")


def raw(served: Served) -> socket.socket:
    address = served.listener.address
    assert isinstance(address, TcpAddress)
    return socket.create_connection((address.host, address.port), timeout=5)


def test_each_end_knows_who_is_there(served: Serve) -> None:
    made = served(name="the big one")
    link = made.link(client="alice")
    assert link.peer == "the big one"
    assert within(5, lambda: bool(made.server.links))
    assert made.server.links[0].peer == "alice"


def test_the_right_token_comes_in(served: Serve) -> None:
    asks(served(token="sésame"), token="sésame")


@pytest.mark.parametrize("token", ["", "Sésame", "sésame ", "x" * 1000])
def test_a_wrong_token_is_refused(served: Serve, token: str) -> None:
    made = served(token="sésame")
    with pytest.raises(Refused, match="the token is missing or wrong; pass the one"):
        made.link(token=token)
    assert within(5, lambda: len(made.troubles) == 1)
    assert "sésame" not in made.troubles[0]


def test_another_version_is_refused(served: Serve) -> None:
    with pytest.raises(Refused, match="speaks protocol 1, the client 7; install the same version"):
        served().link(protocol=7)


def test_a_full_server_says_so(served: Serve) -> None:
    made = served(most_clients=1)
    first = made.link()
    with pytest.raises(Refused, match="1 clients already; try again later"):
        made.link()
    first.close()
    assert within(5, lambda: not made.listener._threads)
    asks(made)


def test_off_loopback_a_token_is_demanded() -> None:
    with pytest.raises(BadValue, match="open to other machines, and there is no token; give one"):
        Listener("tcp://0.0.0.0:0", Requests, print)
    Listener("tcp://0.0.0.0:0", Requests, print, token="x").close()


def test_a_port_in_use_is_one_line(served: Serve) -> None:
    made = served()
    with pytest.raises(BadValue, match="in use by another server; stop that one or choose"):
        Listener(made.listener.address, Requests, print)


@pytest.mark.parametrize(
    "address", ["tcp://192.0.2.1:0", "tcp://no.such.host.invalid:1", "unix:///no/such/folder/s"]
)
def test_where_one_cannot_listen_is_one_line(address: str) -> None:
    with pytest.raises(BadValue, match=r"cannot listen on .*; choose a"):
        Listener(address, Requests, print, token="x")


def test_a_socket_left_by_a_server_that_is_gone_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with Listener(UnixAddress(path), Requests, print):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BadValue, match="in use by another server"):
            Listener(UnixAddress(path), Requests, print)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(BadValue):
        Listener(UnixAddress(path), Requests, print)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("sends", [b"", b"GET / HTTP/1.1\r\n\r\n", pack(Kind.PING, 0, 0), b"r"])
def test_who_does_not_say_hello_is_dropped(served: Serve, sends: bytes) -> None:
    made = served(handshake_s=0.2)
    stranger = raw(made)
    stranger.sendall(sends)
    began = time.monotonic()
    while stranger.recv(100):
        pass
    assert time.monotonic() - began < 2
    assert within(5, lambda: len(made.troubles) == 1)
    asks(made)
    stranger.close()


def test_who_trickles_is_dropped_too(served: Serve) -> None:
    made = served(handshake_s=0.2)
    stranger = raw(made)
    gone = threading.Event()

    def trickle() -> None:
        try:
            for byte in pack(Kind.WHOLE, 0, 0, 4000) + bytes(4000):
                stranger.sendall(bytes([byte]))
                time.sleep(0.005)
        except OSError:
            gone.set()

    thread = threading.Thread(target=trickle)
    thread.start()
    assert gone.wait(3)
    thread.join()
    stranger.close()


def test_strangers_beyond_the_bound_are_dropped_at_once(served: Serve) -> None:
    made = served(most_clients=2, handshake_s=0.5)
    strangers = [raw(made) for _ in range(60)]
    time.sleep(0.1)
    assert len(made.listener._threads) <= 2 + 32
    for stranger in strangers:
        stranger.close()
    assert within(5, lambda: not made.listener._threads)
    asks(made)


def test_tls_proves_the_server(served: Serve) -> None:
    made = served("tls", token="x")
    asks(made, token="x")
    with pytest.raises(ServerLost, match="cannot be reached"):
        made.link(token="x", tls=ssl.create_default_context())  # does not know the certificate
    with pytest.raises(ServerLost):
        made.link(token="x", tls=None, timeout_s=0.5)


def test_who_trickles_a_handshake_of_tls_is_dropped(served: Serve) -> None:
    made = served("tls", handshake_s=0.2)
    stranger = raw(made)
    began = time.monotonic()
    try:
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500):
            stranger.sendall(bytes([byte]))
            time.sleep(0.01)
    except OSError:
        assert time.monotonic() - began < 2
    else:
        raise AssertionError("it was heard to the end")
    stranger.close()


def test_a_client_with_tls_finds_no_plain_server(served: Serve, certificate: Certificate) -> None:
    tls = ssl.create_default_context(cafile=str(certificate.certificate))
    with pytest.raises(ServerLost, match="cannot be reached"):
        served().link(tls=tls, timeout_s=2)


def test_a_certificate_that_is_none_is_one_line(tmp_path: Path) -> None:
    wrong = tmp_path / "x.pem"
    wrong.write_text("nothing")
    with pytest.raises(BadValue, match="give two PEM files that belong together"):
        Listener("tcp://127.0.0.1:0", Requests, print, certificate=Certificate(wrong, wrong))


def test_nobody_there_is_one_line(served: Serve) -> None:
    made = served()
    made.listener.close()
    with pytest.raises(ServerLost, match=r"cannot be reached: .*refused; is it running there"):
        made.link()


def test_a_server_of_another_kind_is_one_line(served: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = TcpAddress(*other.getsockname())
        with pytest.raises(ServerLost, match=r"did not answer within 0\.2 s; is it a Remora"):
            served().link(address, timeout_s=0.2)


def test_a_server_that_closes_ends_its_clients(served: Serve) -> None:
    made = served()
    link = made.link()
    made.listener.close()
    made.listener.close()
    with pytest.raises(Exception, match="the other end closed"):
        link.receive_within(5)


def test_what_the_server_takes_is_known_to_the_client(served: Serve) -> None:
    made = served()
    assert made.link()._writer.limits == made.listener._welcome.limits
