"""Servers as actors of Ray, which finds them a machine, and another when that one is lost.

Ray starts them and nothing else: what a client and a server say to each other goes over our own
sockets, and no tensor is ever Ray's.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from remora.core.errors import BadValue, Unavailable
from remora.remote.fleet.spec import Spec
from remora.remote.wire.address import TcpAddress, parse_address

CONNECT_S = 5.0
"""How long a Ray cluster may take to answer."""


class RayServer:
    """The actor: a server that joins its fleet when it is made, and again when Ray remakes it."""

    def __init__(self, encoded: bytes, *, is_open: bool) -> None:
        from remora.remote.fleet.member import Member

        spec = Spec.decoded(encoded)
        if is_open:
            spec = msgspec.structs.replace(spec, listen=f"tcp://{own_address()}:0")
        self._member = Member(spec)


class RayActors:
    """As :class:`~remora.remote.fleet.places.Place` says.

    Args:
        cluster: the address of a Ray cluster; ``local``: one that is started here for as long as
            this lasts; empty: the one that this machine belongs to, or as ``local``.
        cpus: CPUs that Ray keeps for each server.
        gpus: GPUs, of which the server then sees no others.
        is_open: the servers listen where other machines reach them.

    Raises:
        Unavailable: Ray is not installed.
        BadValue: there is no cluster there, or one of several machines that cannot reach the
            directory.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        cluster: str = "",
        cpus: float = 1,
        gpus: float = 0,
        is_open: bool = False,
    ) -> None:
        ray = imported()
        self._began = not ray.is_initialized()
        if self._began:
            _connect(ray, cluster)
        try:
            _check_reach(ray, is_open)
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1}
            made = ray.remote(RayServer).options(**options, scheduling_strategy="SPREAD")
            self._actors = {
                spec.name: made.remote(spec.encoded(), is_open=is_open) for spec in specs
            }
            self._made = {name: each.__ray_ready__.remote() for name, each in self._actors.items()}
        except BaseException:
            self._disconnect()
            raise
        self._wanted = f"{cpus:g} CPUs and {gpus:g} GPUs for each of {len(specs)} servers"

    def failed(self) -> Mapping[str, str]:
        ray = imported()
        why = {}
        ready, _ = ray.wait(list(self._made.values()), num_returns=len(self._made), timeout=0)
        for name in [name for name, made in self._made.items() if made in ready]:
            try:
                ray.get(self._made[name])
            except ray.exceptions.RayError as error:
                why[name] = _reason(error)
        return why

    def short_of(self) -> str:
        has = imported().cluster_resources()
        return (
            f"Ray was asked for {self._wanted}, and its cluster has {has.get('CPU', 0):g} CPUs "
            f"and {has.get('GPU', 0):g} GPUs; start fewer, or with fewer --threads"
        )

    def close(self) -> None:
        ray = imported()
        if not ray.is_initialized():
            return
        for actor in self._actors.values():
            ray.kill(actor, no_restart=True)
        self._actors = {}
        self._disconnect()

    def _disconnect(self) -> None:
        if self._began:
            imported().shutdown()


def imported() -> Any:
    """Ray.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "a fleet on Ray needs it; run: pip install 'remora[ray]', or use --on processes"
        ) from error
    return ray


def own_address() -> str:
    """This machine's, as the others of the cluster know it."""
    address: str = imported().util.get_node_ip_address()
    return address


def _connect(ray: Any, cluster: str) -> None:
    try:
        _check_answers(cluster)
        ray.init(
            address=cluster or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if cluster in ("", "local") else None,
        )
    except (OSError, ValueError, RuntimeError) as error:
        said = [*str(error).strip().splitlines(), type(error).__name__][0]
        raise BadValue(
            f"there is no Ray cluster at {cluster or 'this machine'} ({said[:200]}); "
            "give the address that `ray start --head` printed"
        ) from error


def _check_answers(cluster: str) -> None:
    """``OSError`` where nobody answers at ``host:port``: Ray itself would try for minutes."""
    host, _, port = cluster.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_S).close()


def _check_reach(ray: Any, is_open: bool) -> None:
    machines = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(machines) > 1 and not is_open:
        raise BadValue(
            f"this Ray cluster has {len(machines)} machines, and the fleet listens on loopback; "
            "give --listen an address that they reach, and a --token-file"
        )


def _reason(error: Exception) -> str:
    """The last line of what Ray says: that of the error in the actor itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def is_open(listen: str) -> bool:
    """Whether other machines are to reach a fleet that listens there."""
    return not parse_address(listen).is_loopback


def reachable(address: str) -> str:
    """``address``, by this machine's own where it stands for all of them: ``0.0.0.0``."""
    where = parse_address(address)
    if isinstance(where, TcpAddress) and where.host in ("0.0.0.0", "::"):
        return str(TcpAddress(own_address(), where.port))
    return address
