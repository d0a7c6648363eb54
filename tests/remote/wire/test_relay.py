"""The network in a process takes what arithmetic says, and fails as told."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import Echo, is_last

from remora.remote.wire.address import TcpAddress
from remora.remote.wire.channel import Channel
from remora.remote.wire.relay import AHEAD_S, Line, Relay

Serve = Callable[..., Served]


@contextmanager
def through(relay: Relay) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket and its server's, with ``relay`` between."""
    target = relay._target
    assert isinstance(target, TcpAddress)
    assert isinstance(relay.address, TcpAddress)
    with socket.create_server((target.host, target.port)) as listening:
        client = socket.create_connection((relay.address.host, relay.address.port), timeout=10)
        server, _ = listening.accept()
        server.settimeout(10)
        with client, server:
            yield client, server


def free_port() -> TcpAddress:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return TcpAddress(*sock.getsockname())


def test_a_line_sends_at_its_rate_and_delivers_after_its_delay() -> None:
    line = Line(8_000, 0.5)  # 1,000 bytes a second
    line.send(bytes(100), 10.0)
    line.send(bytes(50), 10.0)
    assert line.arrived(10.599) == []
    assert line.arrived(10.601) == [bytes(100)]
    assert line.arrived(10.651) == [bytes(50)]
    line.send(b"x", 20.0)
    assert line.arrived(20.502) == [b"x"]


def test_what_the_line_has_not_taken_waits_before_it() -> None:
    line = Line(8_000, 0.5)
    assert line.takes_more(0.0)
    line.send(bytes(100), 0.0)
    assert not line.takes_more(0.0)
    assert line.takes_more(0.1 - AHEAD_S + 1e-6)
    assert line.idle_s(0.0) <= 0.1


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=50), st.floats(0, 1)), max_size=30))
def test_bytes_stay_in_order(sends: list[tuple[bytes, float]]) -> None:
    line, now_s, got = Line(4_000, 0.2), 0.0, b""
    for data, pause_s in sends:
        line.send(data, now_s)
        now_s += pause_s
        got += b"".join(line.arrived(now_s))
    assert got + b"".join(line.arrived(1e9)) == b"".join(data for data, _ in sends)


def test_nothing_passes_sooner_than_arithmetic_says() -> None:
    with Relay(free_port(), bits_per_s=100e6, delay_ms=10) as relay, through(relay) as (one, other):
        began, left = time.perf_counter(), 500_000
        one.sendall(bytes(left))
        while left:
            left -= len(other.recv(min(left, 2**20)))
        assert time.perf_counter() - began >= 0.050


@pytest.mark.slow  # it measures, and wants the machine for itself
def test_the_time_is_what_arithmetic_says() -> None:
    with Relay(free_port(), bits_per_s=100e6, delay_ms=10) as relay, through(relay) as (one, other):
        data = bytes(2_500_000)
        small, large = [], []
        for _ in range(5):
            began = time.perf_counter()
            one.sendall(b"x")
            other.recv(1)
            other.sendall(b"y")
            one.recv(1)
            small.append(time.perf_counter() - began)
        for _ in range(2):
            began = time.perf_counter()
            one.sendall(data)
            left = len(data)
            while left:
                left -= len(other.recv(min(left, 2**20)))
            large.append(time.perf_counter() - began)
        assert min(small) == pytest.approx(0.020, rel=0.15)
        assert min(large) == pytest.approx(0.210, rel=0.05)
        assert min(*small, *large) >= 0.020


@pytest.mark.slow
def test_a_call_through_it_takes_what_arithmetic_says(served: Serve) -> None:
    made = served()
    with (
        Relay(made.listener.address, bits_per_s=100e6, delay_ms=10) as relay,
        Channel(made.link(relay.address), is_last=is_last) as channel,
    ):
        took = []
        for _ in range(2):
            began = time.perf_counter()
            channel.call(Echo("x"), [torch.zeros(1_250_000, dtype=torch.uint8)])
            took.append(time.perf_counter() - began)
        assert min(took) == pytest.approx(0.220, rel=0.1)


def test_without_a_rate_it_only_delays() -> None:
    with Relay(free_port(), delay_ms=5) as relay, through(relay) as (one, other):
        one.sendall(bytes(1_000_000))
        began, left = time.perf_counter(), 1_000_000
        while left:
            left -= len(other.recv(2**20))
        assert time.perf_counter() - began < 0.1


def test_the_end_passes_after_what_was_sent() -> None:
    with Relay(free_port(), bits_per_s=1e6, delay_ms=5) as relay, through(relay) as (one, other):
        one.sendall(b"last")
        one.shutdown(socket.SHUT_WR)
        assert other.recv(10) == b"last"
        assert other.recv(10) == b""
        other.sendall(b"the other way still passes")
        assert one.recv(100).startswith(b"the other")


def test_cut_ends_both_sides() -> None:
    with Relay(free_port()) as relay, through(relay) as (one, other):
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        relay.cut()
        for end in (one, other):
            with suppress(ConnectionResetError):
                assert end.recv(1) == b""


def test_stalled_passes_nothing_until_it_resumes() -> None:
    with Relay(free_port()) as relay, through(relay) as (one, other):
        relay.stall()
        time.sleep(0.05)
        one.sendall(b"x")
        other.settimeout(0.15)
        with pytest.raises(TimeoutError):
            other.recv(1)
        relay.resume()
        other.settimeout(5)
        assert other.recv(1) == b"x"


def test_half_open_loses_what_the_client_sends() -> None:
    with Relay(free_port()) as relay, through(relay) as (one, other):
        relay.half_open()
        one.sendall(b"into the void")
        one.settimeout(0.15)
        with pytest.raises(TimeoutError):
            one.recv(1)
        with suppress(ConnectionResetError):
            assert other.recv(1) == b""


def test_a_connection_that_comes_to_a_half_open_relay_has_no_server() -> None:
    with Relay(free_port()) as relay:
        relay.half_open()
        with through(relay) as (_, other), suppress(ConnectionResetError):
            assert other.recv(1) == b""


def test_a_connection_that_comes_to_a_relay_that_is_cut_is_cut() -> None:
    with Relay(free_port()) as relay:
        relay.cut()
        with through(relay) as ends:
            for end in ends:
                with suppress(ConnectionResetError):
                    assert end.recv(1) == b""
