"""Rate control: best-effort work is paced by what high-priority throughput shows (TGS, NSDI'23).

Best-effort work gets a share of the time as its rate. While the high-priority job gets through its
work as fast as alone, the rate grows by a step; once it does not, the rate is divided, as TCP does.
Its throughput is the share of the time it had work in which that work was on the device: alone it
is 1, whatever the load.

What this cannot see is latency: it finds out that it went too far by having gone there.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.core.errors import BadValue
from remora.share.policies.by_class import ByClass, ByClassOptions
from remora.share.policies.contract import Decision, Priority, Run, Unit, WaitUntil, whole


@dataclass(frozen=True)
class RateControlOptions(ByClassOptions):
    """How the rate follows what is observed."""

    window_ns: int = 100_000_000
    """How long throughput is observed before the rate changes: several requests."""
    tolerance: float = 0.05
    """The loss of throughput that is not yet one: below it a change is lost in chance."""
    increase: float = 0.05
    """What a good window adds to the rate: from least to most in about two seconds."""
    decrease: float = 0.5
    """What a bad window multiplies the rate by: half, as congestion control does."""
    least_rate: float = 0.01
    """The rate never falls below, or nothing would ever be tried again."""
    unpaced_after_ns: int = 100_000_000
    """How long high-priority work has been absent when nothing is paced any more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window_ns", "unpaced_after_ns"):
            if getattr(self, name) <= 0:
                raise BadValue(
                    f"{name.removesuffix('_ns')}={getattr(self, name)} ns is no time; "
                    "choose a positive one such as 100ms"
                )
        for name in ("tolerance", "increase", "decrease", "least_rate"):
            if not 0 < getattr(self, name) < 1:
                raise BadValue(f"{name}={getattr(self, name)!r}: choose a share between 0 and 1")


class RateControl(ByClass):
    """Best-effort work at the rate that leaves high-priority throughput as it is."""

    name = "rate-control"
    title = "best effort at a rate that high-priority throughput allows"
    paces = True
    options_type = RateControlOptions

    def __init__(self, options: RateControlOptions | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self._set = options or RateControlOptions()
        self.rate = self._set.least_rate
        """The share of the time that best-effort work may have the device for, now."""
        self._paced_from_ns, self._last_used_ns = 0, 0
        self._window_ns: int | None = None
        self._present_since_ns: int | None = None
        self._present_ns, self._served_ns = 0, 0
        self._high_since: dict[Run, int] = {}

    def _offer(self, unit: Unit, now_ns: int) -> Decision:
        absent_ns = self._high_absent_ns(now_ns)
        if absent_ns is None:
            return whole(unit)
        gap_ns = round(self._last_used_ns * (1 / self.rate - 1))
        free_ns = now_ns - absent_ns + self._set.unpaced_after_ns
        begin_ns = min(self._paced_from_ns + gap_ns, free_ns)
        return whole(unit) if now_ns >= begin_ns else WaitUntil(begin_ns)

    # ------------------------------------------------- what is observed

    def _add(self, unit: Unit, now_ns: int) -> None:
        super()._add(unit, now_ns)
        if unit.priority is Priority.HIGH and self._present_since_ns is None:
            self._present_since_ns = now_ns
            if self._window_ns is None:
                self._window_ns = now_ns

    def _take(self, run: Run, now_ns: int) -> None:
        super()._take(run, now_ns)
        if run.unit.priority is Priority.HIGH:
            self._high_since[run] = now_ns

    def _done(self, run: Run, now_ns: int) -> None:
        if run.unit.priority is Priority.HIGH:
            used_ns = now_ns - self._high_since.pop(run)
            self._served_ns += min(used_ns, run.expected_ns or used_ns)
        super()._done(run, now_ns)

    def _lost(self, run: Run, now_ns: int) -> None:
        self._high_since.pop(run, None)
        super()._lost(run, now_ns)

    def _high_over(self, now_ns: int) -> None:
        super()._high_over(now_ns)
        if self._present_since_ns is not None:
            self._present_ns += now_ns - self._present_since_ns
            is_present = self._high or self._high_flying
            self._present_since_ns = now_ns if is_present else None
        self._adapt(now_ns)

    def _best_effort_over(self, run: Run, now_ns: int) -> int:
        self._last_used_ns = super()._best_effort_over(run, now_ns)
        self._paced_from_ns = now_ns
        return self._last_used_ns

    def _adapt(self, now_ns: int) -> None:
        """At the end of a window: up by a step, or down by a factor."""
        if self._window_ns is None or now_ns - self._window_ns < self._set.window_ns:
            return
        if self._served_ns < (1 - self._set.tolerance) * self._present_ns:
            self.rate = max(self._set.least_rate, self.rate * self._set.decrease)
        else:
            self.rate = min(1.0, self.rate + self._set.increase)
        self._window_ns, self._present_ns, self._served_ns = now_ns, 0, 0
