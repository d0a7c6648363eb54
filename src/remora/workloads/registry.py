"""Every workload by name: ours, and those that installed packages add.

A package adds workloads through the entry-point group ``remora.workloads``. The entry point loads
to a :class:`Workload`, or to a class or function that makes one when called without arguments; its
``name`` is the key. A broken entry point spoils nothing but itself: see :func:`broken`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from remora.core.errors import Unavailable, UnknownName
from remora.workloads.contract import Mode, Scale, Workload

GROUP = "remora.workloads"

_FAMILIES = (
    "vision.vgg",
    "vision.resnet",
    "vision.mnist",
    "language.word_lm",
    "language.transformer_xl_training",
    "language.bert",
    "language.gpt2",
    "language.opt",
    "language.bloom",
    "language.llama",
    "multimodal.clip",
    "multimodal.whisper",
    "micro",
)
"""Modules below ``remora.workloads`` with a function ``workloads()``. None imports a model."""


class _Registry(NamedTuple):
    workloads: dict[str, Workload]
    broken: dict[str, str]


def names() -> list[str]:
    """The names of all workloads, sorted."""
    return sorted(_registry().workloads)


def get(name: str) -> Workload:
    """The workload called ``name``; a bare model name means its ``train`` mode, or its only one.

    Raises:
        UnknownName: there is none; the message lists the valid names.
        Unavailable: an installed package promises it but fails to load.
    """
    known, failed = _registry()
    if name in known:
        return known[name]
    if name in failed:
        raise Unavailable(f"workload {name!r} of an installed package is broken: {failed[name]}")
    of_model = [workload for workload in known.values() if workload.model == name]
    if len(of_model) == 1:
        return of_model[0]
    if f"{name}-train" in known:
        return known[f"{name}-train"]
    raise UnknownName("workload", name, known)


@dataclass(frozen=True)
class Description:
    """A row of the table of workloads."""

    name: str
    model: str
    mode: Mode
    sizes: Mapping[str, int | str]
    source: str
    workload: Workload
    scale: Scale

    @property
    def parameters(self) -> int:
        """How many parameters: worked out when asked for, since that builds a model's shapes."""
        return self.workload.footprint(self.scale).parameters


def describe(scale: Scale) -> list[Description]:
    """Every workload at ``scale``, by name. Imports and builds nothing."""
    return [
        Description(
            name=name,
            model=workload.model,
            mode=workload.mode,
            sizes=workload.sizes(scale),
            source=workload.source,
            workload=workload,
            scale=scale,
        )
        for name, workload in sorted(_registry().workloads.items())
    ]


def broken() -> dict[str, str]:
    """Entry points that failed to load, by name, with the reason in one line."""
    return dict(_registry().broken)


def forget() -> None:
    """Look for installed packages anew at the next question."""
    _registry.cache_clear()


@lru_cache(maxsize=1)
def _registry() -> _Registry:
    found: dict[str, Workload] = {}
    failed: dict[str, str] = {}
    for family in _FAMILIES:
        module = importlib.import_module(f"remora.workloads.{family}")
        found |= {workload.name: workload for workload in module.workloads()}
    for entry in entry_points(group=GROUP):
        try:
            workload = _load(entry, found)
        except Exception as error:  # whatever a stranger's module raises is theirs to mend
            failed[entry.name] = f"{entry.value}: {type(error).__name__}: {error}".splitlines()[0]
        else:
            found[workload.name] = workload
    return _Registry(found, failed)


def _load(entry: EntryPoint, taken: dict[str, Workload]) -> Workload:
    loaded = entry.load()
    workload = loaded if isinstance(loaded, Workload) else loaded()
    if not isinstance(workload, Workload):
        raise TypeError(f"made a {type(workload).__name__}, not a Workload")
    if workload.name in taken:
        raise ValueError(f"the name {workload.name!r} is taken")
    return workload
