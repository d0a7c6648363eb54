"""How a program comes to a fleet, and how a fleet's address is read."""

from __future__ import annotations

from collections.abc import Callable

from remora.core.errors import BadValue
from remora.remote.fleet.calling import Calling
from remora.remote.fleet.fleet import Fleet
from remora.remote.fleet.router import Router
from remora.remote.wire.address import parse_address
from remora.remote.wire.channel import Channel

SCHEME = "fleet://"


def connect_to_fleet(
    address: str, calling: Calling, dial: Callable[[str], Channel], reconnect_s: float
) -> Fleet:
    """The fleet whose directory is at ``address``.

    Args:
        calling: reaches directories.
        dial: connects to a server.

    Raises:
        BadValue: the address is none, or what is there is no fleet.
        ServerLost: the directory does not answer, or none of its servers.
        Refused: the token or the version is wrong.
    """
    directory = directory_of(address)
    return Fleet(
        lambda lines: Router(lambda: calling.directory(directory), directory, lines.follow),
        dial,
        address,
        reconnect_s,
    )


def fleet_address(directory: str) -> str:
    """How a directory's address is written for clients.

    >>> fleet_address("tcp://127.0.0.1:7718")
    'fleet://127.0.0.1:7718'
    """
    return SCHEME + directory.split("://", 1)[1]


def directory_of(address: str) -> str:
    """The directory's own address, of ``fleet://host:port``, ``fleet:///path`` or without a scheme.

    Raises:
        BadValue: it is none.
    """
    plain = address.removeprefix(SCHEME)
    if plain.startswith("/"):
        return str(parse_address(f"unix://{plain}"))
    try:
        return str(parse_address(plain if "://" in plain else f"tcp://{plain}"))
    except BadValue:
        raise BadValue(
            f"{address!r} is not a fleet's address; write 'fleet://127.0.0.1:7718'"
        ) from None
