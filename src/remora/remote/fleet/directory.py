"""The directory of a fleet: servers come and say where they are, clients ask where to go.

No tensor ever passes here, and no call waits for it: a client that knows the servers talks to them
itself, and goes on doing so when the directory is gone.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Iterable

from remora.core.errors import Refused
from remora.remote.fleet.desk import Desk
from remora.remote.fleet.members import Members
from remora.remote.fleet.messages import LIMITS, PEER, Join, Question
from remora.remote.fleet.probe import Health, Probe
from remora.remote.wire.channel import Channel
from remora.remote.wire.link import Link
from remora.remote.wire.listener import Certificate, Listener

DEFAULT_ADDRESS = "tcp://127.0.0.1:7718"


class Directory:
    """Knows a fleet's servers, asks each whether it is there, and tells clients. A context manager.

    Args:
        address: where it listens; ``tcp://host:port`` or ``unix:///path``.
        names: the servers that the fleet is to have.
        dial: connects to a server, to ask how it is.
        token: what clients and servers must know; off loopback there must be one.
        certificate: they come by TLS.
        health: when a server counts as gone.
        told: told, in words, of servers that come and go.

    Raises:
        BadValue: an address that is none, in use, or open to others without a token.
    """

    def __init__(
        self,
        address: str,
        names: Iterable[str],
        dial: Callable[[str], Channel],
        *,
        token: str = "",
        certificate: Certificate | None = None,
        health: Health | None = None,
        told: Callable[[str], object] = lambda words: None,
    ) -> None:
        self._dial, self._health = dial, health or Health()
        self.secret = secrets.token_urlsafe()
        """What a server must know to join: no client can pass for one."""
        self.members = Members(names, told)
        self.ended = threading.Event()
        """Set when a client wants the fleet to end."""
        self._probes: dict[str, Probe] = {}
        self._guard = threading.Lock()
        self._listener = Listener(
            address,
            Question,
            self._serve,
            name=PEER,
            token=token,
            certificate=certificate,
            limits=LIMITS,
            share=False,
            troubled=told,
        )

    @property
    def address(self) -> str:
        """Where it listens, with the port that it got."""
        return str(self._listener.address)

    def join(self, join: Join) -> Probe:
        """A server is there: ask it from now on.

        Raises:
            Refused: it does not know the secret, or its name is not expected.
        """
        if not hmac.compare_digest(join.secret.encode(), self.secret.encode()):
            raise Refused("only servers that this fleet has started may join it")
        with self._guard:
            born = self.members.join(join)
            before = self._probes.get(join.name)
            if before is None or before.born != born:
                self._probes[join.name] = self._probe(join, born)
                if before is not None:
                    threading.Thread(target=before.close, daemon=True).start()
            return self._probes[join.name]

    def close(self) -> None:
        """Ask no more, and end all connections. May be called again."""
        self.ended.set()
        self._listener.close()
        with self._guard:
            probes, self._probes = list(self._probes.values()), {}
        for probe in probes:
            probe.close()

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _probe(self, join: Join, born: int) -> Probe:
        return Probe(lambda: self._dial(join.address), join.name, born, self.members, self._health)

    def _serve(self, link: Link) -> None:
        Desk(self.members, self.join, self.ended, link).serve()
