"""What hooks have in common: one of a process stands at a time, and none in a child by fork."""

from __future__ import annotations

import atexit
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from remora.core.errors import BadValue
from remora.core.saying import say
from remora.share.interception.asking import Asking
from remora.share.interception.compiled_regions import CompiledRegions
from remora.share.interception.contract import Gate, Hook
from remora.share.interception.cuda_graphs import CudaGraphs

Words = npt.NDArray[np.uint32]


class Standing(Hook):
    """A hook that begins and ends; what stands before operators is left to those below it.

    Args:
        report: hears, once, of what the hook cannot see here.
    """

    _now: ClassVar[Standing | None] = None

    def __init__(self, report: Callable[[str], object] = say) -> None:
        self._report = report
        self._regions = CompiledRegions(self._pass, report)
        self._graphs = CudaGraphs(self._pass, report)

    def begin(self, gate: Gate) -> None:
        words = _words(gate)
        if Standing._now is not None:
            raise BadValue(
                f"the hook {Standing._now.name} stands before this process's operators already; "
                "end it first"
            )
        Standing._now = self
        try:
            self._begin(words, gate)
        except BaseException:
            Standing._now = None
            raise
        self._regions.wrap()
        self._graphs.wrap()
        atexit.register(self.end)

    def end(self) -> None:
        if Standing._now is not self:
            return
        Standing._now = None
        atexit.unregister(self.end)
        self._leave()
        self._end()

    def _leave(self) -> None:
        self._graphs.unwrap()
        self._regions.unwrap()

    def _asking(self, gate: Gate, *may_pass: Callable[[], bool]) -> Asking:
        return Asking(gate.passing, (self._graphs.is_capturing, *may_pass))

    @abstractmethod
    def _begin(self, words: Words, gate: Gate) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    @abstractmethod
    def _pass(self) -> None:
        """One unit passes that is no operator: a compiled region, a captured graph."""

    def _forget(self) -> None:
        """This is a child by fork, without the hook."""


def _words(gate: Gate) -> Words:
    """The pairs' numbers.

    Raises:
        BadValue: they are no pairs of 32-bit numbers in a row, or ``every`` is below 0.
    """
    pairs = gate.pairs
    if pairs.format != "I" or pairs.ndim != 1 or not pairs.contiguous or len(pairs) % 2:
        raise BadValue(
            f"a gate's pairs are an even count of native 32-bit numbers in a row; this is "
            f"{pairs.shape} of format {pairs.format!r}: memoryview(...).cast('I')"
        )
    if gate.every < 0:
        raise BadValue(f"every={gate.every} operators: choose 0 for never, or more")
    return np.frombuffer(pairs, np.uint32) if len(pairs) else np.zeros(0, np.uint32)


def _forget_in_child() -> None:
    standing, Standing._now = Standing._now, None
    if standing is not None:
        atexit.unregister(standing.end)
        standing._leave()
        standing._forget()


os.register_at_fork(after_in_child=_forget_in_child)
