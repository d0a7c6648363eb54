"""What one server of a fleet is started with, whatever starts it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from remora.remote.server.house import Quotas
from remora.remote.wire.listener import Certificate


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server. It holds secrets: never in a command line, where other users can read it."""

    name: str
    directory: str
    """The address of the directory that it joins."""
    secret: str
    """What the directory lets it join by."""
    listen: str = "tcp://127.0.0.1:0"
    device: str = "cpu"
    token: str = ""
    certificate: str = ""
    """Two PEM files, as paths on the server's machine; empty: no TLS."""
    key: str = ""
    threads: int = 0
    """CPU threads of an operator; 0: all."""
    quotas: Quotas = Quotas()
    weights_folder: str = ""
    """Of this server alone."""
    compiles: bool = False
    """As :class:`~remora.remote.server.server.Server`."""
    policy: str = ""
    """As ``remora serve --policy``; empty: fair turns."""
    slices_folder: str = ""
    """Where it is kept how operators are cut; empty: in the cache of the user it runs as."""
    most_high: int = 0
    """As :class:`~remora.remote.server.server.Server`."""
    builders: dict[str, str] = {}
    """Builders of models by name, as ``module:function``: what the server lets clients build."""

    @property
    def proof(self) -> Certificate | None:
        """What it proves itself with."""
        if not self.certificate:
            return None
        return Certificate(Path(self.certificate), Path(self.key))

    def encoded(self) -> bytes:
        """As one line of JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decoded(line: bytes | str) -> Spec:
        """Of :meth:`encoded`."""
        return msgspec.json.decode(line, type=Spec)
