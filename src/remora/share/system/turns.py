"""Whether a best-effort job may run now, by the policy core.

To the policy the job is one unit that it has submitted again each time. When high-priority work
comes, what is in flight is finished then and there, and waits anew: a CPU takes it off at any
moment, and in front of a device a job has no more in flight than it may.
"""

from __future__ import annotations

from collections.abc import Mapping

from remora.core.errors import BadValue
from remora.share.policies.contract import Cut, Policy, Priority, Run, Unit, WaitUntil
from remora.share.policies.registry import Choice, create

ONE_BEST_EFFORT = ("priority", "priority+min-wait", "priority+slicing", "rate-control")
"""Policies for one best-effort job beside high-priority jobs that need nobody's leave."""
_ANY_NUMBER = 1 << 30
"""High-priority work begins whenever it comes: it is never asked to wait."""
_MINE = Unit("best-effort", Priority.BEST_EFFORT)
_LONG = Unit("best-effort", Priority.BEST_EFFORT, 1 << 60, cuts=(Cut(2, 1),))
"""What is sliced as long as anything is."""


def policy_of(choice: Choice) -> Policy:
    """The policy of ``choice``, for :class:`Turns`.

    Raises:
        BadValue: it is none for one best-effort job.
    """
    if choice.name not in ONE_BEST_EFFORT:
        raise BadValue(
            f"policy {choice.name} orders the work of several jobs, and a job can only order its "
            f"own; choose from: {', '.join(ONE_BEST_EFFORT)}"
        )
    if choice.name == "priority":  # which lets best effort start beside what is under way already
        return waits({**choice.options, "min_wait_ns": 0})
    return create(choice.name, choice.options, capacity=_ANY_NUMBER)


def waits(options: Mapping[str, int | float]) -> Policy:
    """Priority with a wait, for :class:`Turns`."""
    return create("priority+min-wait", options, capacity=_ANY_NUMBER)


class Turns:
    """The turns of one best-effort job beside any number of high-priority jobs.

    Times are nanoseconds of one monotonic clock.

    Args:
        policy: from :func:`policy_of`.
        longest_stop_ns: after so long high-priority jobs that still seem to serve are passed over,
            until they begin anew.
    """

    def __init__(self, policy: Policy, longest_stop_ns: int, now_ns: int) -> None:
        self._policy = policy
        self._longest_stop_ns = longest_stop_ns
        self._serving: dict[str, Run] = {}
        self._running: Run | None = None
        self._stopped_since_ns = now_ns
        self._high_ended_ns: int | None = None
        self._policy.submitted(_MINE, now_ns)

    @property
    def serving(self) -> tuple[str, ...]:
        """The high-priority jobs that serve now."""
        return tuple(self._serving)

    @property
    def asks_each_time(self) -> bool:
        """Whether the job is to ask anew for each piece of work, whoever serves or not."""
        return self._policy.paces or bool(getattr(self._policy.options, "floor", 0.0))

    def runs_whole(self, now_ns: int) -> bool:
        """Whether high-priority work has been away for so long that nothing need be sliced."""
        if self._high_ended_ns is None and not self._serving:
            return True
        absent_ns = 0 if self._serving else now_ns - (self._high_ended_ns or 0)
        return self._policy.longest_run_ns(_LONG, absent_ns) >= _LONG.expected_ns

    def begins(self, job: str, now_ns: int, expected_ns: int = 0) -> None:
        """``job`` has begun to serve. Saying so twice does no harm.

        ``expected_ns`` is for how long when nothing is beside it; 0 where nobody knows.
        """
        if job in self._serving:
            return
        self.asks_anew(now_ns)
        self._policy.submitted(Unit(job, Priority.HIGH, expected_ns), now_ns)
        self._decide(now_ns)

    def asks_anew(self, now_ns: int) -> None:
        """What the job was let do is over, and it wants to do more."""
        if self._running is not None:
            self._policy.finished(self._running, now_ns)
            self._policy.submitted(_MINE, now_ns)
            self._running, self._stopped_since_ns = None, now_ns

    def ends(self, job: str, now_ns: int) -> None:
        """``job`` has nothing to do."""
        if (run := self._serving.pop(job, None)) is not None:
            self._policy.finished(run, now_ns)
            self._high_ended_ns = now_ns

    def left(self, job: str, now_ns: int) -> None:
        """``job`` is gone."""
        if self._serving.pop(job, None) is not None:
            self._high_ended_ns = now_ns
        self._policy.left(job, now_ns)

    def may_run(self, now_ns: int) -> tuple[bool, int | None]:
        """Whether the job may run, and when to ask again, if nothing happens before."""
        over_ns = self._stopped_since_ns + self._longest_stop_ns
        if self._serving and now_ns >= over_ns:
            for job in self.serving:
                self.ends(job, now_ns)
        again_ns = self._decide(now_ns)
        if self._serving:
            again_ns = over_ns if again_ns is None else min(again_ns, over_ns)
        return self._running is not None, again_ns

    def _decide(self, now_ns: int) -> int | None:
        while isinstance(decision := self._policy.next(now_ns), Run):
            self._policy.started(decision, now_ns)
            if decision.unit is _MINE:
                self._running = decision
            else:
                self._serving[decision.unit.job] = decision
        return decision.at_ns if isinstance(decision, WaitUntil) else None
