"""Run the branches of a graph at the same time, where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from remora.core.clock import Clock, SystemClock
from remora.remote.graph.nodes import Graph
from remora.remote.graph.program import NodeFailed, Program, Values
from remora.remote.graph.split import Split, split

_TRIED = 4
"""Runs each way before one is chosen. The first, in which memory is got, does not count."""


def program_for(graph: Graph, weights: Mapping[str, torch.Tensor], device: torch.device) -> Program:
    """The program that runs ``graph`` the fastest, as far as is known before it has run.

    Only a CPU runs branches at the same time: an accelerator works on one thing after another, in
    the order that it is told.
    """
    parts = split(graph) if device.type == "cpu" else None
    return Program(graph, weights, device) if parts is None else SideBySide(parts, weights, device)


class SideBySide(Program):
    """A program whose branches run in a thread each. Gives the same, bit for bit.

    Whether that is faster depends on the model, its inputs and the machine: operators that use all
    cores gain nothing. So both ways are tried, and the faster one is kept.

    Args:
        parts: the graph, cut.
        clock: what the tries are timed by.
    """

    def __init__(
        self,
        parts: Split,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(parts.graph, weights, device, freed=parts.freed)
        self._parts, self._clock = parts, clock or SystemClock()
        self._pool = ThreadPoolExecutor(len(parts.branches) - 1, "remora-branch")
        self._took_ns: dict[bool, list[int]] = {False: [], True: []}
        self.together: bool | None = None
        """Whether branches run at the same time; None while that is being tried."""

    @torch.inference_mode()
    def run(self, inputs: Sequence[torch.Tensor]) -> list[Any]:
        """As :meth:`Program.run`. Where several branches fail, it names the first node of them."""
        together = self.together
        if together is not None:
            return self._run(inputs, together)
        together = len(self._took_ns[True]) < len(self._took_ns[False])
        begun_ns = self._clock.wall_ns()
        outputs = self._run(inputs, together)
        self._note(together, self._clock.wall_ns() - begun_ns)
        return outputs

    def failed(self, node: int, error: Exception) -> NodeFailed:
        """As :meth:`Program.failed`, by the node's place in the graph as it came."""
        named = super().failed(node, error)
        return NodeFailed(self._parts.order[node], named.operator, named.reason)

    def _run(self, inputs: Sequence[torch.Tensor], together: bool) -> list[Any]:
        values, parts = self.begin(inputs), self._parts
        self._steps_in(parts.before, values)
        _all_of([self._branch(branch, values) for branch in parts.branches], self._pool, together)
        self._steps_in(parts.after, values)
        return self.outputs_of(values)

    def _branch(self, branch: range, values: Values) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():  # of each thread its own
                self._steps_in(branch, values)

        return run

    def _steps_in(self, places: range, values: Values) -> None:
        for place in places:
            try:
                self.steps[place](values)
            except Exception as error:  # of any kind: torch has many ways to say no
                raise self.failed(place, error) from error

    def _note(self, together: bool, took_ns: int) -> None:
        self._took_ns[together].append(took_ns)
        if min(map(len, self._took_ns.values())) > _TRIED:
            alone_ns, together_ns = (min(self._took_ns[way][1:]) for way in (False, True))
            self.together = together_ns < alone_ns


def _all_of(
    branches: Sequence[Callable[[], None]], pool: ThreadPoolExecutor, together: bool
) -> None:
    """Run all, to their ends, whether one fails or not."""
    others: list[Future[None]] = [pool.submit(run) for run in branches[1:]] if together else []
    failed = [_failure(branches[0])]
    failed += [_failure(other.result) for other in others]
    failed += [] if together else [_failure(run) for run in branches[1:]]
    errors = [error for error in failed if error is not None]
    if errors:
        raise min(errors, key=lambda error: error.node)


def _failure(run: Callable[[], None]) -> NodeFailed | None:
    try:
        run()
    except NodeFailed as error:
        return error
    return None
