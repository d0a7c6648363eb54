"""What each experiment needs, what of it is here, and the command that brings the rest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from remora.experiments import registry
from remora.lab.design import Design
from remora.lab.packages import PACKAGES, REMEDY
from remora.systems import registry as systems
from remora.workloads import registry as workloads


@dataclass(frozen=True)
class Requirement:
    """One thing one experiment needs."""

    experiment: str
    need: str
    present: bool
    remedy: str

    @property
    def state(self) -> str:
        return "present" if self.present else "missing"


def requirements() -> list[Requirement]:
    """What every experiment needs."""
    return [each for name in registry.names() for each in _of(registry.get(name))]


def _of(design: Design) -> list[Requirement]:
    needs = dict.fromkeys(PACKAGES, REMEDY)
    for name in dict.fromkeys(n for names in design.workloads.values() for n in names):
        needs |= dict.fromkeys(workloads.get(name).packages, "pip install 'remora[models]'")
    for name in dict.fromkeys(each.system for rows in design.systems.values() for each in rows):
        for need in systems.create(name).requires():
            needs[need.package] = need.remedy
    return [
        Requirement(design.name, package, find_spec(package) is not None, remedy)
        for package, remedy in needs.items()
    ]
