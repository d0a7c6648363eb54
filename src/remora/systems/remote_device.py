"""The model on a server as a device of torch: operator by operator, with or without waiting."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch
from torch.utils import _pytree as pytree

from remora.remote.client.server import RemoteServer
from remora.remote.eager.device import Device
from remora.systems.contract import Ride, System
from remora.systems.elsewhere import Crossed, ElsewhereRide
from remora.systems.remote_network import connected
from remora.systems.remote_process import ServerProcess, Serving
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession


class _DeviceRide(ElsewhereRide):
    """Every call of the model runs on the device, with what it is given and gives brought over."""

    def __init__(
        self, session: Session, server: ServerProcess, remote: RemoteServer, device: Device
    ) -> None:
        self._remote, self.device = remote, device
        self.held = ExitStack()
        """What ends with it: the device, the connection, the server."""
        super().__init__(session, self._wire, psutil.Process(server.pid))
        self._module = session.model
        self._there = device.put(copy.deepcopy(session.model))
        session.model = _Called(self._there, device)  # type: ignore[assignment]
        device.synchronize()
        self.ready()

    def counts(self) -> Mapping[str, float]:
        there = self._remote.counts()
        return {**super().counts(), "server_tensors_bytes": there["tensors_bytes"]}

    def close(self) -> None:
        self.session.model = self._module
        self.held.close()

    def _wire(self) -> Crossed:
        return Crossed(self._remote.counted.bytes_sent, self._remote.counted.bytes_received)


class _DecodeRide(_DeviceRide):
    """Decodes with the model's own cache, which is on the device; the ids come back at the end."""

    session: DecodeSession

    def __init__(
        self, session: DecodeSession, server: ServerProcess, remote: RemoteServer, device: Device
    ) -> None:
        super().__init__(session, server, remote, device)
        self._prompt = session.prompt
        session.model, session.prompt = self._there, session.prompt.to(device)
        session._read_prompt()
        device.synchronize()
        self.ready()

    def work(self) -> Outcome:
        return Outcome(self.session.step().tensor.cpu())

    def close(self) -> None:
        self.session.model, self.session.prompt = self._module, self._prompt
        self.session._read_prompt()
        super().close()


class _Called:
    """Stands where a session's model was."""

    def __init__(self, module: torch.nn.Module, device: Device) -> None:
        self._module, self._device = module, device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map_only(
            torch.Tensor, lambda tensor: tensor.to(self._device), (args, kwargs)
        )
        returned = self._module(*args, **kwargs)
        return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.cpu(), returned)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@dataclass(frozen=True)
class RemoteDevice(System):
    """The model's operators one by one on a server; what a driver that is elsewhere would do."""

    name: ClassVar[str] = "remote-device"
    title: ClassVar[str] = "remora serve as a device of torch: operators are recorded and sent"
    trains: ClassVar[bool] = False

    batched: bool = True
    """Off: each operator is a round trip of its own."""
    mbit_s: float = 0.0
    """The network between the two, in Mbit/s each way; 0: loopback as it is."""
    delay_ms: float = 0.0
    """How long everything takes one way; a round trip twice as long."""

    def ride(self, session: Session, directory: Path) -> Ride:
        with ExitStack() as stack:
            server = ServerProcess(Serving(str(session.device), torch.get_num_threads()))
            stack.callback(server.close)
            remote = connected(server.address, stack, mbit_s=self.mbit_s, delay_ms=self.delay_ms)
            device = stack.enter_context(remote.device(batched=self.batched))
            ride = (
                _DecodeRide(session, server, remote, device)
                if isinstance(session, DecodeSession)
                else _DeviceRide(session, server, remote, device)
            )
            ride.held = stack.pop_all()
            return ride
