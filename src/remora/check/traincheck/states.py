"""What the states of variables in a trace of TrainCheck's tell of a call: what it changed.

A state is told where it changed: a variable without a new one within a call is as it was before.
``data`` and ``grad`` are hashes, whose zeros and infinities nobody can tell any more. A variable
that is first told within a call says nothing of that call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remora.check.observation import GRADIENT, PARAMETER, Look, Observation
from remora.check.traincheck.arguments import properties_of

_KINDS = {PARAMETER: "data", GRADIENT: "grad"}
"""By kind of variable, the attribute that is its content."""
_PARAMETER_TYPES = ("torch.nn.Parameter", "torch.nn.parameter.Parameter")

Told = Mapping[str, Mapping[str, Any]]
"""Attributes by a parameter's name."""


class States:
    """What every parameter of each process is now."""

    def __init__(self) -> None:
        self._now: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        self._properties: dict[tuple[str, str], Mapping[str, Any]] = {}

    def put(self, process: int, name: str, kind: str, attributes: Mapping[str, Any]) -> None:
        """``name`` is this from now on."""
        if kind in _PARAMETER_TYPES:
            self._now[process][name] = attributes

    def of(self, process: int) -> Told:
        """What is told so far."""
        return dict(self._now[process])

    def since(self, before: Told, process: int, looks: Sequence[Look]) -> Iterator[Observation]:
        """What has become of each variable that ``looks`` are about."""
        now = self._now[process]
        for kind in sorted({look.kind for look in looks} & _KINDS.keys()):
            content = _KINDS[kind]
            for name, attributes in before.items():
                if any(look.covers(name, kind) for look in looks) and content in attributes:
                    value = now[name].get(content)
                    yield Observation(
                        name, self._properties_of(name, kind, attributes), in_use=True,
                        none=value is None, changed=value != attributes[content],
                        zero=None, finite=None,
                    )  # fmt: skip

    def _properties_of(
        self, name: str, kind: str, attributes: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """One dict for each variable: verdicts on it are remembered."""
        known = self._properties.get((name, kind))
        if known is None:
            known = {"variable.kind": kind}
            told: dict[str, Any] = {}
            properties_of("variable", {"torch.nn.Parameter": attributes}, told)
            for one in ("variable.requires_grad", "variable.dtype", "variable.ndim"):
                if one in told:
                    known[one] = told[one]
            self._properties[name, kind] = known
        return known
