"""A whole fleet: its directory here, its servers at a place, until it is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remora.core.errors import Unavailable
from remora.remote.fleet.calling import Calling, verifying
from remora.remote.fleet.connect import fleet_address
from remora.remote.fleet.directory import DEFAULT_ADDRESS, Directory
from remora.remote.fleet.places import Place
from remora.remote.fleet.probe import Health
from remora.remote.fleet.spec import Spec
from remora.remote.server.house import Quotas
from remora.remote.wire.address import TcpAddress, parse_address
from remora.remote.wire.listener import Certificate
from remora.share.policies.registry import Choice

WITHIN_S = 120.0
"""How long servers may take to come: each imports torch, and Ray may have to start first."""
LOOK_S = 0.2


@dataclass(frozen=True)
class Plan:
    """What a fleet is to be."""

    devices: Sequence[str]
    """One for each server."""
    listen: str = DEFAULT_ADDRESS
    """Where its directory listens; the servers take any port at the same host."""
    token: str = ""
    certificate: Certificate | None = None
    threads: int = 0
    quotas: Quotas = field(default_factory=Quotas)
    health: Health = field(default_factory=Health)
    weights_folder: Path | None = None
    """Where servers keep weights, each in a folder of its name."""
    compiles: bool = False
    """Whether servers compile calls that come again and again."""
    policy: Choice | None = None
    """By what each server shares its device out; None: fair turns."""
    slices_folder: Path | None = None
    """Where servers keep how operators are cut, all in one; None: in the user's cache."""
    most_high: int = 0
    """High-priority clients that each takes at a time; 0 for any number."""
    builders: Mapping[str, str] = field(default_factory=dict)
    """As :attr:`Spec.builders`."""


class RunningFleet:
    """Started when it is made; :meth:`wait` says when it serves. A context manager.

    Args:
        place: starts the servers.
        reachable: the directory's address as servers reach it.
        told: told, in words, of servers that come and go.

    Raises:
        UserError: an address in use, a place that is not there.
    """

    def __init__(
        self,
        plan: Plan,
        place: Callable[[Sequence[Spec]], Place],
        *,
        reachable: Callable[[str], str] = lambda address: address,
        told: Callable[[str], object] = lambda words: None,
    ) -> None:
        self._plan = plan
        self._closing = False
        tls = verifying(plan.certificate.certificate if plan.certificate else None)
        names = [f"server-{index}" for index in range(len(plan.devices))]
        self.directory = Directory(
            plan.listen,
            names,
            Calling(plan.token, tls, plan.health.silent_s).server,
            token=plan.token,
            certificate=plan.certificate,
            health=plan.health,
            told=lambda words: None if self._closing else told(words),
        )
        try:
            self._place = place(self._specs(names, reachable(self.directory.address)))
        except BaseException:
            self.directory.close()
            raise

    @property
    def address(self) -> str:
        """Where clients connect: ``fleet://host:port``."""
        return fleet_address(self.directory.address)

    def wait(self, within_s: float = WITHIN_S) -> None:
        """Wait until all servers serve.

        Raises:
            Unavailable: one cannot, or not within the time; says which and why.
        """
        members, count = self.directory.members, len(self._plan.devices)
        until = time.monotonic() + within_s
        while not members.wait_for(count, LOOK_S):
            failed = self._place.failed()
            if failed:
                name, why = next(iter(failed.items()))
                raise Unavailable(f"{name} cannot serve: {why}")
            if time.monotonic() > until:
                raise Unavailable(self._who_is_missing(within_s))

    def close(self) -> None:
        """End the servers, then the directory. May be called again."""
        self._closing = True
        self._place.close()
        self.directory.close()

    def __enter__(self) -> RunningFleet:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _specs(self, names: Sequence[str], directory: str) -> list[Spec]:
        plan = self._plan
        where = parse_address(plan.listen)
        host = where.host if isinstance(where, TcpAddress) else "127.0.0.1"
        certificate = plan.certificate
        return [
            Spec(
                name,
                directory,
                self.directory.secret,
                listen=str(TcpAddress(host, 0)),
                device=device,
                token=plan.token,
                certificate=_path(certificate.certificate) if certificate else "",
                key=_path(certificate.key) if certificate else "",
                threads=plan.threads,
                quotas=plan.quotas,
                weights_folder=_path(plan.weights_folder / name) if plan.weights_folder else "",
                compiles=plan.compiles,
                policy=str(plan.policy) if plan.policy is not None else "",
                slices_folder=_path(plan.slices_folder) if plan.slices_folder else "",
                most_high=plan.most_high,
                builders=dict(plan.builders),
            )
            for name, device in zip(names, plan.devices, strict=True)
        ]

    def _who_is_missing(self, within_s: float) -> str:
        missing = [s for s in self.directory.members.standings if s.state != "serving"]
        said = ", ".join(f"{s.name} is {s.state}" + f" ({s.why})" * bool(s.why) for s in missing)
        return f"not all servers came within {within_s:g} s: {said}. {self._place.short_of()}"


def _path(file: Path) -> str:
    return str(file.resolve())
