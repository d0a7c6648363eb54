"""The executors there are, and the policies by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from remora.core.errors import BadValue, UnknownName
from remora.systems.beside.cuda import Cuda
from remora.systems.beside.executor import Executor
from remora.systems.beside.operating_system import PLAIN, OperatingSystem
from remora.systems.beside.software_device import SoftwareDevice

__all__ = ["DEFAULT", "EXECUTORS", "PLAIN", "Way", "executor", "parse_way"]

EXECUTORS: Mapping[str, Executor] = {
    each.name: each for each in (OperatingSystem(), SoftwareDevice(), Cuda())
}
DEFAULT = OperatingSystem.name


class Way(NamedTuple):
    """An executor by name, and a policy of it with its options."""

    executor: str
    policy: str


def executor(name: str) -> Executor:
    """The executor called ``name``; :class:`UnknownName` lists the valid ones."""
    if name not in EXECUTORS:
        raise UnknownName("executor of sharing", name, EXECUTORS)
    return EXECUTORS[name]


def parse_way(text: str, device: str = "cpu") -> Way:
    """``idle`` or ``priority:floor=5%``, of the first executor that has a policy of that name and
    shares out devices of the type ``device``; ``software-device/priority`` says which.

    Raises:
        UnknownName: there is no such executor or policy.
        BadValue: the policy has no such option, or is of other devices.
    """
    name, slash, policy = text.partition("/")
    if slash and name in EXECUTORS:
        found = Way(name, policy)
    else:
        found = Way(_having(text.partition(":")[0], text, device), text)
    executor(found.executor).check(found.policy)
    return found


def _having(policy: str, text: str, device: str) -> str:
    here = [each for each in EXECUTORS.values() if device in each.devices]
    for each in here:
        if policy in each.policies():
            return each.name
    for each in EXECUTORS.values():
        if policy in each.policies():
            devices = " or ".join(each.devices)
            raise BadValue(
                f"policy {policy!r} is of the executor {each.name}, which shares out {devices}: "
                f"add --device {each.devices[0]}"
            )
    raise UnknownName("policy", text, [policy for each in here for policy in each.policies()])
