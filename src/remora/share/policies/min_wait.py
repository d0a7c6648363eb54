"""Priority with a wait: best-effort work starts only once the high-priority job has been idle.

Between the units of one request lie gaps of microseconds, in which the program prepares the next.
A best-effort unit in such a gap would keep the rest of the request waiting (Tally, ASPLOS'25: BE
runs once HP has drained and stayed idle).
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.core.errors import BadValue
from remora.share.policies.by_class import ByClass, ByClassOptions
from remora.share.policies.contract import IDLE, Decision, Unit, WaitUntil


@dataclass(frozen=True)
class MinWaitOptions(ByClassOptions):
    """How long best-effort work waits."""

    min_wait_ns: int = 100_000
    """The published 0.1 ms: longer than the gaps between the launches of a request, far shorter
    than those between requests. 0 asks only that nothing is in flight."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_wait_ns < 0:
            raise BadValue(
                f"min_wait={self.min_wait_ns} ns: choose 0 (no wait) or more, such as 0.1ms"
            )


class MinWait(ByClass):
    """Best-effort work once high-priority work has been over for a while."""

    name = "priority+min-wait"
    title = "high priority first, best effort once that has been idle a while"
    options_type = MinWaitOptions

    def __init__(self, options: MinWaitOptions | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self._min_wait_ns = (options or MinWaitOptions()).min_wait_ns

    @property
    def hold_back_ns(self) -> int:
        return self._min_wait_ns

    def _offer(self, unit: Unit, now_ns: int) -> Decision:
        if self._high_flying:
            return IDLE
        if self._high_ended_ns is not None:
            begin_ns = self._high_ended_ns + self._min_wait_ns
            if now_ns < begin_ns:
                return WaitUntil(begin_ns)
        return self._best_effort_run(unit, now_ns)
