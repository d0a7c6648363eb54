"""The experiments by name."""

from __future__ import annotations

from remora.core.errors import UnknownName
from remora.experiments import (
    checkpoint_concurrency,
    checkpoint_sensitivity,
    checkpoint_throughput,
    quick,
)
from remora.lab.design import Design

_ALL = (
    quick.DESIGN,
    checkpoint_throughput.DESIGN,
    checkpoint_sensitivity.DESIGN,
    checkpoint_concurrency.DESIGN,
)
_DESIGNS = {design.name: design for design in _ALL}


def names() -> list[str]:
    """Every experiment's name."""
    return list(_DESIGNS)


def get(name: str) -> Design:
    """The experiment called ``name``; :class:`UnknownName` lists the valid ones."""
    if name not in _DESIGNS:
        raise UnknownName("experiment", name, _DESIGNS)
    return _DESIGNS[name]
