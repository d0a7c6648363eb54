"""Whether a best-effort job may run now, by the policy core: priority with a wait.

To the policy the job is one unit that it has submitted again each time. On a CPU a unit can be
taken off at any moment, so when high-priority work comes, what is in flight is finished then and
there, and waits anew.
"""

from __future__ import annotations

from remora.share.policies.contract import Priority, Run, Unit, WaitUntil
from remora.share.policies.min_wait import MinWait, MinWaitOptions

_ANY_NUMBER = 1 << 30
"""A CPU takes whatever high-priority work there is at once; its scheduler sees to that."""
_MINE = Unit("best-effort", Priority.BEST_EFFORT)


class Turns:
    """The turns of one best-effort job beside any number of high-priority jobs.

    Times are nanoseconds of one monotonic clock.

    Args:
        min_wait_ns: how long high-priority work has to be over before the job goes on.
        longest_stop_ns: after so long high-priority jobs that still seem to serve are passed over,
            until they begin anew.
    """

    def __init__(self, min_wait_ns: int, longest_stop_ns: int, now_ns: int) -> None:
        self._policy = MinWait(MinWaitOptions(min_wait_ns=min_wait_ns), capacity=_ANY_NUMBER)
        self._longest_stop_ns = longest_stop_ns
        self._serving: dict[str, Run] = {}
        self._running: Run | None = None
        self._stopped_since_ns = now_ns
        self._policy.submitted(_MINE, now_ns)

    @property
    def serving(self) -> tuple[str, ...]:
        """The high-priority jobs that serve now."""
        return tuple(self._serving)

    def begins(self, job: str, now_ns: int) -> None:
        """``job`` has begun to serve. Saying so twice does no harm."""
        if job in self._serving:
            return
        if self._running is not None:
            self._policy.finished(self._running, now_ns)
            self._policy.submitted(_MINE, now_ns)
            self._running, self._stopped_since_ns = None, now_ns
        self._policy.submitted(Unit(job, Priority.HIGH), now_ns)
        self._decide(now_ns)

    def ends(self, job: str, now_ns: int) -> None:
        """``job`` has nothing to do."""
        if (run := self._serving.pop(job, None)) is not None:
            self._policy.finished(run, now_ns)

    def left(self, job: str, now_ns: int) -> None:
        """``job`` is gone."""
        self._serving.pop(job, None)
        self._policy.left(job, now_ns)

    def may_run(self, now_ns: int) -> tuple[bool, int | None]:
        """Whether the job may run, and when to ask again, if nothing happens before."""
        over_ns = self._stopped_since_ns + self._longest_stop_ns
        if self._serving and now_ns >= over_ns:
            for job in self.serving:
                self.ends(job, now_ns)
        again_ns = self._decide(now_ns)
        if self._serving:
            again_ns = over_ns
        return self._running is not None, again_ns

    def _decide(self, now_ns: int) -> int | None:
        while isinstance(decision := self._policy.next(now_ns), Run):
            self._policy.started(decision, now_ns)
            if decision.unit is _MINE:
                self._running = decision
            else:
                self._serving[decision.unit.job] = decision
        return decision.at_ns if isinstance(decision, WaitUntil) else None
