"""A run of a graph that can rest between any two of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from remora.remote.graph.asked import Asked
from remora.remote.graph.program import Program


class Running:
    """One run of ``program``, as :meth:`Program.run` does it, but a few steps at a time.

    It runs where gradients are off, as they are in :meth:`Program.run`.
    """

    def __init__(self, program: Program, inputs: Sequence[torch.Tensor]) -> None:
        self._program, self._values = program, program.begin(inputs)
        self.at = 0
        """Steps that are done."""

    def go_on(self, end: int) -> None:
        """Do the steps to before ``end``.

        Raises:
            NodeFailed: an operator refuses what it is given.
        """
        steps, values = self._program.steps, self._values
        try:
            while self.at < end:
                steps[self.at](values)
                self.at += 1
        except Exception as error:  # of any kind: torch has many ways to say no
            raise self._program.failed(self.at, error) from error

    def asked(self) -> Asked | None:
        """The call that the next step is; None where it is more than that."""
        return self._program.asked(self.at, self._values)

    def has_given(self, result: Any) -> None:
        """Somebody else has made that call, and this is what its operator returned."""
        self._program.keep(self.at, result, self._values)
        self.at += 1

    def has_failed(self, error: Exception) -> None:
        """It raised ``error``.

        Raises:
            NodeFailed: always; says which node it was.
        """
        raise self._program.failed(self.at, error) from error

    def outputs(self) -> list[Any]:
        """The graph's outputs, behind the last step."""
        return self._program.outputs_of(self._values)
