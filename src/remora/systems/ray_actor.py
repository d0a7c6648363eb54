"""A model in a Ray actor, on a Ray that is started for it and ends with it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch

from remora.core.errors import Unavailable
from remora.systems.contract import Requirement, Ride, System
from remora.systems.held_model import HeldModel
from remora.systems.held_ride import HeldRide
from remora.systems.socket_bytes import SocketBytes
from remora.workloads.contract import Session

_QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class RayActor(System):
    """The model in an actor, weights and cache there, one remote call a token."""

    name: ClassVar[str] = "ray-actor"
    title: ClassVar[str] = "Ray actor: the model and its cache there, a call a token"
    trains: ClassVar[bool] = False

    loop_there: bool = False
    """On: all tokens of a step are one call, and come back together at its end."""

    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("ray", "pip install 'remora[ray]'"),)

    def ride(self, session: Session, directory: Path) -> Ride:
        crossed, cluster = SocketBytes(), _Cluster(session.model)
        try:
            return HeldRide(
                session,
                cluster,
                cluster.close,
                crossed=crossed,
                process=psutil.Process(cluster.pid),
                loop_there=self.loop_there,
            )
        except BaseException:
            cluster.close()
            raise


class _Actor(HeldModel):
    """What is made an actor of."""

    def pid(self) -> int:
        """Of the process that it is in."""
        return os.getpid()


class _Cluster:
    """A Ray of one process on this machine, and the actor that holds the model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._folder = tempfile.mkdtemp(prefix="remora-ray-")
        self._environment = dict(os.environ)
        self._actor: Any = None
        os.environ.update(_QUIET)
        try:
            self._ray: Any = import_module("ray")
            self._start(model)
        except BaseException as error:
            self.close()
            raise Unavailable(f"Ray did not start: {error}") from error

    def _start(self, model: torch.nn.Module) -> None:
        ray, weights = self._ray, sum(each.nbytes for each in model.state_dict().values())
        with _said_nothing():
            ray.init(
                num_cpus=1,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
                object_store_memory=2 * weights + 256 * 2**20,
                _temp_dir=self._folder,
            )
        self._actor = ray.remote(_Actor).remote(model, torch.get_num_threads())
        self.pid: int = self.ask("pid")

    def ask(self, method: str, *args: Any) -> Any:
        return self._ray.get(getattr(self._actor, method).remote(*args))

    def close(self) -> None:
        self._actor = None
        with _said_nothing():
            self._ray.shutdown()
        os.environ.clear()
        os.environ.update(self._environment)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _said_nothing() -> Iterator[None]:
    """What Ray says of itself when it starts and ends is no part of a trial."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        yield
