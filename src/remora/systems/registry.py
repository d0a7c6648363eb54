"""The systems by name: ours, and those other packages add under ``remora.systems``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec

from remora.core.errors import BadValue, UnknownName
from remora.core.plugins import Registry
from remora.systems.beside.system import Beside
from remora.systems.captured import Captured
from remora.systems.checkfreq_like import CheckfreqLike
from remora.systems.contract import Option, System
from remora.systems.dcp_async import DcpAsync, DcpAsyncProcess
from remora.systems.dcp_save import DcpSave
from remora.systems.gemini_like import GeminiLike
from remora.systems.gpm_like import GpmLike
from remora.systems.idle import Idle
from remora.systems.native import Native
from remora.systems.patch_everything import PatchEverything
from remora.systems.ray_actor import RayActor
from remora.systems.remora_check import RemoraCheck
from remora.systems.remora_checkpoint import RemoraCheckpoint
from remora.systems.remora_record import RemoraRecord
from remora.systems.remora_remote import RemoraRemote
from remora.systems.remote_device import RemoteDevice
from remora.systems.safetensors_save import SafetensorsSave
from remora.systems.torch_checkpointing import TorchCheckpointing
from remora.systems.torch_rpc import TorchRpc
from remora.systems.torch_save import TorchSave, TorchSaveNoSync
from remora.systems.torchsnapshot import Torchsnapshot
from remora.systems.tracing import DispatchMode, Settrace
from remora.systems.traincheck_peer import Traincheck
from remora.workloads.contract import Workload


def _accept(name: str, loaded: object) -> type[System]:
    if isinstance(loaded, type) and issubclass(loaded, System) and loaded.name == name:
        return loaded
    raise BadValue(f"the entry point is not a System subclass whose name is {name!r}")


_BUILTIN = (
    *(Native, Idle, Settrace, DispatchMode, PatchEverything),
    *(RemoraRecord, RemoraCheck, Traincheck),
    *(TorchSaveNoSync, TorchSave, SafetensorsSave, DcpSave, DcpAsync, DcpAsyncProcess),
    *(TorchCheckpointing, Torchsnapshot, CheckfreqLike, GpmLike, GeminiLike),
    RemoraCheckpoint,
    *(Captured, RemoraRemote, RemoteDevice, TorchRpc, RayActor),
    Beside,
)
_REGISTRY: Registry[type[System]] = Registry(
    "system", "remora.systems", {each.name: each for each in _BUILTIN}, _accept
)


def names() -> list[str]:
    """Every valid system name."""
    return _REGISTRY.names()


def find(name: str) -> type[System]:
    """The system class called ``name``; :class:`UnknownName` lists the valid ones."""
    return _REGISTRY.get(name)


def create(name: str, options: Mapping[str, Option] | None = None) -> System:
    """The system ``name`` with ``options``.

    Raises:
        UnknownName: no such system, or it has no option of that name.
        BadValue: an option of the wrong type.
    """
    system, options = find(name), dict(options or {})
    defaults = {field.name: field.default for field in fields(system)}
    for option, value in options.items():
        if option not in defaults:
            raise UnknownName(f"option of system {name}", option, defaults)
        wanted = type(defaults[option])
        if type(value) is not wanted:
            raise BadValue(
                f"option {option}={value!r} of system {name} is not of type {wanted.__name__}"
            )
    return system(**options)


def unfit(system: System, workload: Workload) -> str | None:
    """Why ``system`` cannot ride ``workload``; None when it can."""
    if workload.mode == "train" and not system.trains:
        return f"{system.name} runs models that are trained elsewhere; {workload.name} trains"
    return None


def missing(system: System) -> str | None:
    """Why ``system`` cannot run here, with the remedy; None when it can."""
    absent = [need for need in system.requires() if find_spec(need.package) is None]
    if not absent:
        reason = system.unavailable()
        return None if reason is None else f"{system.name} cannot run: {reason}"
    packages = ", ".join(need.package for need in absent)
    remedies = " && ".join(dict.fromkeys(need.remedy for need in absent))
    return f"{system.name} needs {packages}; install with: {remedies}"
