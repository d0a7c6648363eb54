"""Remora rides along with PyTorch jobs that nobody changed, and shows what riding along costs.

The public names, each imported when first used, so that ``import remora`` is instant and leaves
torch alone:

    run_script, Job, Service, Observe       ride along with a program; watch it
    Checkpointer                            save a training's whole state, and resume from it
    connect, RemoteServer, RemoteModel, RemoteSession   run a model on a server
    Draw, Wanted                            how tokens are drawn, what is sent back of an output
    Step, Forward, Subscription             what the taps hand to a subscriber
    Workload, Session, Outcome, Work, Footprint     the contract of a workload
    System, Ride, Moved, Requirement                the contract of a system
    Design, Effort                          an experiment of your own
    RemoraError, UserError and its kinds    what is raised on purpose
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from remora import check
    from remora.checkpoint.checkpointer import Checkpointer
    from remora.core.errors import BadValue, RemoraError, Unavailable, UnknownName, UserError
    from remora.lab.design import Design, Effort
    from remora.remote.client.model import RemoteModel
    from remora.remote.client.server import RemoteServer, connect
    from remora.remote.client.session import RemoteSession
    from remora.remote.messages import Draw, Wanted
    from remora.systems.contract import Moved, Requirement, Ride, System
    from remora.tap.forwards import Forward
    from remora.tap.job import Job
    from remora.tap.launch import run_script
    from remora.tap.observe import Observe
    from remora.tap.service import Service
    from remora.tap.steps import Step
    from remora.tap.subscription import Subscription
    from remora.workloads.contract import Footprint, Outcome, Session, Work, Workload

__all__ = [
    "BadValue",
    "Checkpointer",
    "Design",
    "Draw",
    "Effort",
    "Footprint",
    "Forward",
    "Job",
    "Moved",
    "Observe",
    "Outcome",
    "RemoraError",
    "RemoteModel",
    "RemoteServer",
    "RemoteSession",
    "Requirement",
    "Ride",
    "Service",
    "Session",
    "Step",
    "Subscription",
    "System",
    "Unavailable",
    "UnknownName",
    "UserError",
    "Wanted",
    "Work",
    "Workload",
    "__version__",
    "check",
    "connect",
    "run_script",
]

_MODULES = {
    "checkpoint.checkpointer": ("Checkpointer",),
    "core.errors": ("BadValue", "RemoraError", "Unavailable", "UnknownName", "UserError"),
    "lab.design": ("Design", "Effort"),
    "remote.client.model": ("RemoteModel",),
    "remote.client.server": ("RemoteServer", "connect"),
    "remote.client.session": ("RemoteSession",),
    "remote.messages": ("Draw", "Wanted"),
    "systems.contract": ("Moved", "Requirement", "Ride", "System"),
    "tap.forwards": ("Forward",),
    "tap.job": ("Job",),
    "tap.launch": ("run_script",),
    "tap.observe": ("Observe",),
    "tap.service": ("Service",),
    "tap.steps": ("Step",),
    "tap.subscription": ("Subscription",),
    "workloads.contract": ("Footprint", "Outcome", "Session", "Work", "Workload"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "check":
        return import_module("remora.check")
    if name not in _HOME:
        raise AttributeError(f"module 'remora' has no attribute {name!r}")
    value = getattr(import_module(f"remora.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
