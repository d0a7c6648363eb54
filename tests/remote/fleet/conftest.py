"""A fleet whose servers are in this process: each can be ended, and started again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from remora.remote.client.server import connect
from remora.remote.fleet.calling import Calling, verifying
from remora.remote.fleet.connect import fleet_address
from remora.remote.fleet.directory import Directory
from remora.remote.fleet.fleet import Fleet
from remora.remote.fleet.messages import Join, Standing
from remora.remote.fleet.probe import Health
from remora.remote.fleet.registration import Registration
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server
from remora.remote.wire.listener import Certificate

QUICK = Health(every_s=0.1, silent_s=1.0)


class FleetHere:
    """``count`` servers and their directory."""

    def __init__(
        self,
        count: int,
        token: str = "",
        health: Health = QUICK,
        host: str = "127.0.0.1",
        certificate: Certificate | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.token, self.told = token, list[str]()
        self.certificate, self._listen = certificate, f"tcp://{host}:0"
        self.calling = Calling(token, verifying(certificate.certificate if certificate else None))
        self._quotas = quotas or Quotas(chunk_tokens=8, lease_s=60)
        self._pids = itertools.count(1)
        self.directory = Directory(
            self._listen,
            [f"server-{index}" for index in range(count)],
            self.calling.server,
            token=token,
            certificate=certificate,
            health=health,
            told=self.told.append,
        )
        self.servers: dict[str, tuple[Server, Registration]] = {}
        for index in range(count):
            self.start(f"server-{index}")
        assert self.directory.members.wait_for(count, 20)

    @property
    def address(self) -> str:
        return fleet_address(self.directory.address).replace("0.0.0.0", "127.0.0.1")

    def start(self, name: str) -> None:
        server = Server(
            self._listen,
            token=self.token,
            certificate=self.certificate,
            quotas=self._quotas,
        )
        join = Join(name, server.address, self.directory.secret, pid=next(self._pids))
        registration = Registration(
            lambda: self.calling.directory(self.directory.address), join, again_s=0.05
        )
        self.servers[name] = server, registration

    def end(self, name: str) -> None:
        server, registration = self.servers.pop(name)
        server.close()
        registration.close()

    def sessions(self) -> dict[str, int]:
        """How many each server holds."""
        return {name: len(each.house.sessions) for name, (each, _) in self.servers.items()}

    def standing(self, name: str) -> Standing:
        (found,) = (s for s in self.directory.members.standings if s.name == name)
        return found

    def close(self) -> None:
        for name in list(self.servers):
            self.end(name)
        self.directory.close()


@pytest.fixture
def fleet_here() -> Iterator[Callable[..., FleetHere]]:
    """Makes a fleet that ends with the test."""
    with ExitStack() as stack:

        def make(count: int, **options: Any) -> FleetHere:
            made = FleetHere(count, **options)
            stack.callback(made.close)
            return made

        yield make


def connected(there: FleetHere, **options: Any) -> Fleet:
    certificate = there.certificate.certificate if there.certificate else None
    fleet = connect(there.address, token=there.token, certificate=certificate, **options)
    assert isinstance(fleet, Fleet)
    return fleet


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
