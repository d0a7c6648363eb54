"""Addresses: two kinds, read and written; everything else is refused with an example."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.remote.wire import address
from remora.remote.wire.address import TcpAddress, parse_address


@pytest.mark.parametrize(
    "text",
    ["tcp://127.0.0.1:7717", "tcp://localhost:0", "tcp://[::1]:80", "unix:///tmp/remora.sock"],
)
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:7717", "tcp://", "tcp://host", "tcp://host:port", "tcp://host:99999",
     "tcp://:7717", "http://host:80", "tcp://host:80/path", "tcp://me@host:80", "tcp://[::1:80",
     "unix://", "unix:///", "unix://relative", "unix:relative", "tcp://host:80?x=1"],
)  # fmt: skip
def test_others_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadValue, match=r"write .*(tcp://127.0.0.1:7717|unix:///tmp/remora.sock)"):
        parse_address(text)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(BadValue, match="at most 100: choose a shorter one"):
        parse_address(f"unix:///{'x' * 100}")


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        parse_address(f"tcp://{text}")
    except BadValue:
        return


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_known(host: str, is_loopback: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is is_loopback


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(address).failed == 0
