"""A server: a listener at the door, a desk for each client, one house behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from remora.core.errors import BadValue
from remora.remote.messages import Request
from remora.remote.server.builders import Builder
from remora.remote.server.compiling import Compiler
from remora.remote.server.desk import Desk
from remora.remote.server.house import House, Quotas
from remora.remote.server.weights_on_disk import WeightFolder
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link
from remora.remote.wire.listener import DEFAULT_ADDRESS, Certificate, Listener
from remora.remote.wire.tensors import Allocate
from remora.share.policies.registry import Choice


class Server:
    """Runs models on ``device`` for whoever connects, until it is closed.

    Args:
        address: ``tcp://host:port`` (port 0 for any that is free) or ``unix:///path``.
        token: what clients must know; off loopback there must be one.
        certificate: clients come by TLS.
        quotas: the most that is given away.
        weights_folder: where weights are kept for the next server.
        builders: of models by name, beside that of transformers and those of installed packages.
        compiles: calls that come again and again are compiled.
        limits: the most that one message may hold.
        allocate: gives memory for what clients send, or raises ``MemoryError``.
        policy: who runs next, operator by operator; without one all take fair turns.
        most_high: high-priority clients there may be at a time; 0 for any number.
        best_effort_sms: multiprocessors of a GPU that best-effort units may use; 0 for all.
        slices_folder: where it is kept how operators are cut, for the next server.
        troubled: told, in words, of connections that end badly, and of what is compiled.

    Raises:
        BadValue: an address that is none, in use, or open to others without a token; a folder
            that cannot be written to; a number of high-priority clients without a policy.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        device: torch.device | str = "cpu",
        *,
        token: str = "",
        certificate: Certificate | None = None,
        quotas: Quotas | None = None,
        weights_folder: Path | None = None,
        builders: Mapping[str, Builder] | None = None,
        compiles: bool = False,
        limits: Limits | None = None,
        allocate: Allocate | None = None,
        policy: Choice | None = None,
        most_high: int = 0,
        best_effort_sms: int = 0,
        slices_folder: Path | None = None,
        troubled: Callable[[str], object] = lambda words: None,
    ) -> None:
        folder = None if weights_folder is None else WeightFolder(weights_folder, troubled=troubled)
        if compiles and torch.device(device).type != "cpu":
            raise BadValue(f"graphs are compiled on the CPU only; leave --compile out for {device}")
        compiler = Compiler(said=troubled) if compiles else None
        self.house = House(
            torch.device(device),
            quotas,
            folder=folder,
            builders=builders,
            compiler=compiler,
            policy=policy,
            most_high=most_high,
            best_effort_sms=best_effort_sms,
            slices_folder=slices_folder,
            said=troubled,
        )
        try:
            self._listener = Listener(
                address,
                Request,
                self._serve,
                token=token,
                certificate=certificate,
                limits=limits,
                allocate=allocate,
                troubled=troubled,
                enters=lambda link, hello: self.house.clients.enter(link, hello.priority),
                leaves=self.house.clients.leave,
            )
        except BaseException:
            self.house.close()
            raise

    @property
    def address(self) -> str:
        """Where it listens, with the port that it got."""
        return str(self._listener.address)

    def close(self) -> None:
        """End all connections and stop. May be called again."""
        self._listener.close()
        self.house.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _serve(self, link: Link) -> None:
        Desk(self.house, link).serve()
