"""Turns by a policy: one unit after another, and the policy is asked before each.

This is a device that nothing can stop in the middle of a unit, and the server owns it: an
accelerator without preemption in all but speed. Requests of one client come one after another, but
for sessions, of which each has its own order. So a policy sees a unit of each of these, and the
next once that is done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from remora.core.clock import Clock
from remora.remote.messages import ClientCounts, Reply, is_last
from remora.remote.server.clients import Client
from remora.remote.server.counting import Counting
from remora.remote.server.sessions import Sessions
from remora.remote.server.streams import Streams
from remora.remote.server.turns import IDLE_S, Turns, answer_failed
from remora.remote.server.units import Ahead, Course
from remora.remote.server.work import (
    AnyWork,
    GenerateWork,
    PrefillWork,
    ReorderWork,
    RewindWork,
    Work,
)
from remora.share.policies.contract import Policy, Priority, Run, Unit, WaitUntil

Lane = tuple[Client, object]
"""Whose requests come one after another: a client's, or those of one of its sessions."""


@dataclass(eq=False)
class UnderWay:
    """A request that is the first of its lane."""

    work: Work
    lane: Lane
    course: Course
    ahead: Ahead | None = None
    """What of it the policy has, or is to have next; None behind the last."""
    since_ns: int = 0
    """Since when that could have run."""


class PolicyTurns(Turns):
    """As the module says.

    Args:
        policy: who runs next, one unit at a time.
        course: how a request goes.
        streams: where each class computes; all on one if None.
    """

    def __init__(
        self,
        policy: Policy,
        course: Callable[[AnyWork], Course],
        sessions: Sessions,
        clock: Clock,
        streams: Streams | None = None,
    ) -> None:
        super().__init__(sessions)
        self._streams = streams or Streams()
        self._policy, self._course, self._clock = policy, course, clock
        self._come: deque[AnyWork] = deque()
        self._cancelled: deque[Work] = deque()
        self._gone: deque[Client] = deque()
        self._closing = False
        self._lanes: dict[Lane, deque[AnyWork]] = {}
        self._first: dict[Lane, UnderWay] = {}
        self._units: dict[Unit, UnderWay] = {}
        """Those that the policy has; of a request that was dropped it may have one that is not."""
        self._works: dict[Work, None] = {}
        self._guard = threading.Lock()
        self._counting = Counting()

    # ------------------------------------------------- by any thread

    def add(self, work: AnyWork) -> None:
        came_ns, answer = work.asked_ns, work.answer

        def answered(reply: Reply, tensors: Sequence[torch.Tensor]) -> None:
            if is_last(reply):
                work.answer = answer
                self._over(work, came_ns)
            answer(reply, tensors)

        work.answer = answered
        with self._guard:
            self._works[work] = None
        self._come.append(work)

    def cancelled(self, work: Work) -> None:
        self._cancelled.append(work)

    def left(self, client: Client) -> None:
        self._gone.append(client)

    def works(self) -> Sequence[Work]:
        with self._guard:
            return list(self._works)

    def close(self) -> None:
        self._closing = True

    def is_wanted(self) -> bool:
        """Whether the device is wanted for more than best-effort work that goes on."""
        high = Priority.HIGH
        return (
            bool(self._closing or self._cancelled or self._gone)
            or any(work.client.priority is high for work in list(self._come))
            or any(client.priority is high for client, _ in self._first)
        )

    def counts(self) -> Sequence[ClientCounts]:
        return self._counting.told()

    # ------------------------------------------------- by the one that computes

    def turn(self) -> float:
        now_ns = self._clock.wall_ns()
        self._hear(now_ns)
        decision = self._policy.next(now_ns)
        if isinstance(decision, Run):
            self._give(decision, now_ns)
            return 0.0
        if isinstance(decision, WaitUntil):
            return max(0.0, (decision.at_ns - now_ns) / 1e9)
        return IDLE_S

    def _hear(self, now_ns: int) -> None:
        """What has happened since the last time, in the order in which a policy is told."""
        while self._cancelled:
            self._drop(self._cancelled.popleft(), now_ns)
        while self._gone:
            client = self._gone.popleft()
            self._policy.left(client.job, now_ns)
            self._counting.left(client)
        while self._come:
            work = self._come.popleft()
            if work not in self._works:  # nobody waits for it any more
                continue
            if isinstance(work, RewindWork | ReorderWork):
                self._at_once(work)
            else:
                self._line_up(work, now_ns)

    def _at_once(self, work: RewindWork | ReorderWork) -> None:
        """Nothing is computed for it, and what it is about is at rest."""
        way = UnderWay(work, (work.client, work), self._course(work))
        if self._go_on(way, None):
            raise TypeError("a session is taken to another place in its text by no units")

    def _line_up(self, work: AnyWork, now_ns: int) -> None:
        session = work.session if isinstance(work, PrefillWork | GenerateWork) else None
        lane = (work.client, session)
        if lane in self._first:
            self._lanes.setdefault(lane, deque()).append(work)
        else:
            self._begin(lane, work, work.asked_ns, now_ns)

    def _begin(self, lane: Lane, work: AnyWork, since_ns: int, now_ns: int) -> None:
        """``work`` is the first of its lane, and could have run since ``since_ns``."""
        way = self._first[lane] = UnderWay(work, lane, self._course(work), since_ns=since_ns)
        if self._go_on(way, None):
            self._submit(way, now_ns)
        else:
            self._next_of(lane, now_ns)

    def _submit(self, way: UnderWay, now_ns: int) -> None:
        client, ahead = way.work.client, way.ahead or Ahead()
        unit = Unit(client.job, client.priority, ahead.expected_ns, cuts=ahead.cuts)
        self._units[unit] = way
        self._policy.submitted(unit, now_ns)

    # ------------------------------------------------- one unit

    def _give(self, run: Run, now_ns: int) -> None:
        """The device is given ``run``, and is done with it when this returns."""
        self._policy.started(run, now_ns)
        way = self._units.get(run.unit)
        if way is None:  # nobody waits for it any more
            self._policy.finished(run, now_ns)
            return
        before = way.ahead
        self._go_on(way, run)
        ended_ns = self._clock.wall_ns()
        self._policy.finished(run, ended_ns)
        self._count(way, run, now_ns, ended_ns)
        way.since_ns = ended_ns
        is_over = way.ahead is not before
        if is_over:
            del self._units[run.unit]
        self._hear(ended_ns)  # who came meanwhile came before what follows
        if is_over and self._first.get(way.lane) is way:
            if way.ahead is not None:
                self._submit(way, ended_ns)
            else:
                self._next_of(way.lane, ended_ns)

    def _go_on(self, way: UnderWay, run: Run | None) -> bool:
        """``run``, or what comes before the first; whether there is more of the request.

        Whatever goes wrong ends this request, and nothing else.
        """
        way.ahead = None
        try:
            with torch.inference_mode(), self._streams.of(way.work.client.priority):
                way.ahead = next(way.course) if run is None else way.course.send(run)
        except StopIteration:
            return False
        except Exception as error:  # of any kind: the graph is a stranger's
            self._let_go(way.work)
            answer_failed(way.work, error)
            return False
        return True

    def _next_of(self, lane: Lane, now_ns: int) -> None:
        """The first of ``lane`` is over: the one behind it is the first."""
        self._first.pop(lane, None)
        waiting = self._lanes.get(lane)
        if waiting:
            work = waiting.popleft()
            self._begin(lane, work, max(work.asked_ns, now_ns), now_ns)
        else:
            self._lanes.pop(lane, None)

    def _count(self, way: UnderWay, run: Run, begun_ns: int, ended_ns: int) -> None:
        counted = self._counting.of(way.work.client)
        counted.units += 1
        counted.device_ns += ended_ns - begun_ns
        counted.beyond_bound += not run.within_bound
        counted.waits.note(begun_ns - way.since_ns)

    # ------------------------------------------------- what is over

    def _over(self, work: Work, came_ns: int) -> None:
        """It is answered."""
        with self._guard:
            self._works.pop(work, None)
        counted = self._counting.of(work.client)
        counted.requests += 1
        counted.responses.note(self._clock.wall_ns() - came_ns)

    def _drop(self, work: Work, now_ns: int) -> None:
        """Nobody waits for it: it goes no further. What a policy has of it is given no time."""
        with self._guard:
            if work not in self._works:  # it is answered
                return
            del self._works[work]
        way = next((each for each in self._first.values() if each.work is work), None)
        if way is not None:
            way.course.close()
        self._let_go(work)
        for waiting in self._lanes.values():
            if work in waiting:
                waiting.remove(work)  # type: ignore[arg-type]
        if way is None:
            return
        self._units = {unit: each for unit, each in self._units.items() if each is not way}
        self._next_of(way.lane, now_ns)
