"""A server that owns its cores as executor: a device that nothing can stop within an operator.

Both jobs are its clients. The one that serves has its model there, captured; the one that trains
sends operator by operator, as to a device of torch. The programs themselves run on the cores that
the device does not have, as on any machine with an accelerator; the one that trains gives way to
the other there, so that what is measured is the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

import remora
from remora.core.errors import Unavailable
from remora.remote.client.server import RemoteServer
from remora.share.policies.contract import Priority
from remora.share.policies.priority_slicing import SlicingOptions
from remora.share.policies.registry import POLICIES, parse_choice
from remora.share.slicing.cache import default_folder
from remora.systems.beside.executor import Executor, Setting, Stage, Step, Training
from remora.systems.beside.order import Order
from remora.systems.contract import Another
from remora.systems.graphs import Graphs, keep_graph
from remora.systems.remora_remote import riding
from remora.systems.remote_calls import Keeps
from remora.systems.remote_process import ServerProcess, Serving
from remora.workloads.contract import Session

LEAST_STEPS = 4
"""Of a training: one to learn how long its operators take, one to find cuts, two as all others."""
MOST_STEPS = 200


class SoftwareDevice(Executor):
    """``remora serve --policy``, with a core of its own."""

    name = "software-device"
    title = "a server that owns its cores and does not preempt"
    devices = ("cpu",)
    alone = "fifo"

    def policies(self) -> Sequence[str]:
        return tuple(POLICIES)

    def check(self, policy: str) -> None:
        parse_choice(policy)

    def must_learn(self, policy: str) -> bool:
        return isinstance(parse_choice(policy).create().options, SlicingOptions)

    def keep(self, another: Another, kept: Path) -> None:
        keep_graph(another, kept)

    def stage(self, setting: Setting) -> Stage:
        return _Stage(setting)

    def train(self, order: Order) -> Training:
        return _Training(order)


class _Stage(Stage):
    def __init__(self, setting: Setting) -> None:
        others = sorted(os.sched_getaffinity(0) - set(setting.cores))
        self.serving_cores = self.training_cores = others or setting.cores
        self._held = ExitStack()
        serving = Serving(
            device=str(setting.device),
            threads=len(setting.cores),
            policy=setting.policy,
            cores=list(setting.cores),
            slices_folder=str(default_folder()),
        )
        self._graphs = Graphs(setting.kept)
        self._server = ServerProcess(serving)
        self._held.callback(self._server.close)
        try:
            self.meeting = self._server.address
        except Unavailable:
            self._held.close()
            raise
        self._remote: RemoteServer | None = None

    def serve(self, session: Session) -> Step:
        ride = riding(session, self._connect, self._server.pid, Keeps(), self._graphs)
        self._held.callback(ride.close)
        return ride.step

    def _connect(self) -> RemoteServer:
        remote = remora.connect(self.meeting, priority=Priority.HIGH, reconnect_s=0)
        self._remote = self._held.enter_context(remote)
        return remote

    def busy_ns(self) -> int:
        return _device_ns(self._remote, Priority.HIGH)

    def worked(self, pid: int) -> Callable[[], int]:
        return lambda: _device_ns(self._remote, Priority.BEST_EFFORT)

    def close(self) -> None:
        self._held.close()


class _Training(Training):
    def __init__(self, order: Order) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._remote = remora.connect(order.meeting, priority=Priority.BEST_EFFORT, reconnect_s=0)
        self._there = self._remote.device()
        self.device = torch.device(self._there)

    def warm_up(self, step: Step) -> None:
        """Until nothing new is found out of its operators."""
        before = known = -1
        for number in range(MOST_STEPS):
            step()
            self.done()
            before, known = known, self._remote.counts()["operators_known"]
            if number + 1 >= LEAST_STEPS and known == before:
                return
        raise Unavailable(f"after {MOST_STEPS} steps of it there still are new operators")

    def worked_ns(self) -> int:
        return _device_ns(self._remote, Priority.BEST_EFFORT)

    def done(self) -> None:
        self._there.synchronize()


def _device_ns(remote: RemoteServer | None, priority: Priority) -> int:
    if remote is None:
        raise Unavailable("nobody serves on that device yet")
    return sum(each.device_ns for each in remote.clients() if each.priority == priority)
