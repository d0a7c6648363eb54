"""How best-effort operators are cut: by share's slicing, where a policy has a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from remora.core.clock import SystemClock
from remora.core.saying import say
from remora.remote.graph.asked import Asked
from remora.share.policies.contract import Policy
from remora.share.policies.priority_slicing import SlicingOptions
from remora.share.slicing.profiler import Settings
from remora.share.slicing.slicing import Pieces, Slicing

if TYPE_CHECKING:
    from remora.share.slicing.cache import Cache


LONG_NS = 500_000_000
"""A look from which on it is said why steps are long."""


class _Wanted(BaseException):
    """Passes all that catches errors: measuring is to end, and nothing has gone wrong."""


class Watch(SystemClock):
    """The clock that a measurement reads around every run: it ends where the device is wanted."""

    def __init__(self) -> None:
        self.is_wanted: Callable[[], bool] = lambda: False

    def wall_ns(self) -> int:
        if self.is_wanted():
            raise _Wanted
        return super().wall_ns()


class Cuts:
    """Cuts what takes longer than ``turnaround_ns``, where that gives bit for bit the same.

    How a call is cut is measured when it first comes, which takes some dozens of its own time. That
    is given up between two runs when the device is wanted for something else; the call then runs
    whole, and is measured when it comes again.
    """

    def __init__(
        self,
        turnaround_ns: int,
        slicing: Slicing,
        watch: Watch,
        said: Callable[[str], object] = say,
    ) -> None:
        self.turnaround_ns, self._slicing, self.watch = turnaround_ns, slicing, watch
        self._said: Callable[[str], object] | None = said

    @property
    def known(self) -> int:
        """Of how many kinds of operators it is known how they are cut, or that they are not."""
        return self._slicing.looked_up

    def pieces(self, asked: Asked | None) -> Pieces | None:
        """``asked`` in pieces; None where it runs whole."""
        if asked is None:
            return None
        began_ns = time.monotonic_ns()
        try:
            return self._slicing.pieces(*asked)
        except _Wanted:
            return None
        finally:
            self._say_once(time.monotonic_ns() - began_ns)

    def _say_once(self, took_ns: int) -> None:
        """What makes first steps long, where one look was."""
        if self._said is not None and took_ns > LONG_NS:
            self._said(
                "remora: how best-effort operators are cut is measured, each when it first comes: "
                "the first steps of a training take much longer"
            )
            self._said = None

    def ran_whole(self, asked: Asked | None, took_ns: int) -> None:
        """``asked`` took so long in one piece: where that is too long and no cut is known, it is
        said, once for each operator."""
        if asked is not None:
            self._slicing.ran_whole(asked.operator, took_ns)


def cuts_for(
    policy: Policy, cache: Cache | None = None, said: Callable[[str], object] = say
) -> Cuts | None:
    """What ``policy`` wants to be cut; None where it has no bound.

    Args:
        cache: where it is kept how calls are cut.
        said: told in words, once, that measuring takes long, and of each operator that runs whole
            all the same.
    """
    options = policy.options
    if not isinstance(options, SlicingOptions):
        return None
    watch = Watch()
    slicing = Slicing(Settings(turnaround_ns=options.turnaround_ns), cache, watch, report=said)
    return Cuts(options.turnaround_ns, slicing, watch, said)
