"""The contract of what runs a fleet's servers: processes of this machine, or actors of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Place(Protocol):
    """Runs servers and starts again what ends, until it is closed.

    Made with a :class:`~remora.remote.fleet.spec.Spec` for each server; it returns at once, and the
    servers come to their directory when they are ready. A server ends when its place does, however
    that ends.
    """

    def failed(self) -> Mapping[str, str]:
        """Servers that will not come, however often they are started, and why."""
        ...

    def short_of(self) -> str:
        """What servers that have not come may be waiting for, and what to do; in words."""
        ...

    def close(self) -> None:
        """End all servers. Returns when they are gone. May be called again."""
        ...
