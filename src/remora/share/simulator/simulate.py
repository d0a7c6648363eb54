"""Simulate a device: a heap of what happens next, and the policy asked after every moment.

Devices do not know of each other, so a thousand of them are a thousand simulations, one after
another or side by side.
"""

from __future__ import annotations

import heapq
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from remora.core.errors import BadValue
from remora.share.policies.contract import Run, WaitUntil
from remora.share.simulator.flights import Flights
from remora.share.simulator.jobs import Device
from remora.share.simulator.program import Program
from remora.share.simulator.results import DeviceResult

_END, _COME, _SUBMIT, _WAKE = range(4)
"""What happens, in the order in which it does at one moment."""
_ORDER = 1 << 48
"""Leaves room for as many events of one kind as anyone will wait for."""
_DEVICES_AT_ONCE = 8
"""To a process: enough that handing them over does not count, few enough that all have work."""


def simulate(device: Device) -> DeviceResult:
    """What ``device`` does in its time, from its jobs' arrivals and the policy's decisions."""
    return _Simulation(device).run()


def simulate_all(devices: Iterable[Device], processes: int = 1) -> Iterator[DeviceResult]:
    """Each device, in their order. Where there are more ``processes`` than one, side by side.

    Raises:
        BadValue: fewer processes than one.
    """
    if processes < 1:
        raise BadValue(f"{processes} processes simulate nothing; choose 1 or more")
    if processes == 1:
        yield from map(simulate, devices)
        return
    # Not by fork: whoever plans may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        yield from pool.map(simulate, devices, chunksize=_DEVICES_AT_ONCE)


class _Simulation:
    def __init__(self, device: Device) -> None:
        self._device = device
        self._policy = device.policy()
        self._programs = {job.name: Program(job) for job in device.jobs}
        self._events: list[tuple[int, int, Program | None]] = []
        self._count = 0
        self._flights = Flights(device.contention) if self._policy.capacity > 1 else None
        self._flying: Run | None = None
        self._flying_since_ns, self._end_order = 0, 0
        self._wake_ns = -1
        self._in_flight, self._busy_ns, self._busy_since_ns = 0, 0, 0
        self._runs, self._beyond_bound = 0, 0

    def run(self) -> DeviceResult:
        for program in self._programs.values():
            if program.is_open_loop:
                self._expect(program)
            else:
                self._push(0, _SUBMIT, program)
        self._until(self._device.duration_ns)
        duration_ns = self._device.duration_ns
        if self._in_flight:
            self._busy_ns += duration_ns - self._busy_since_ns
        return DeviceResult(
            {name: program.result(duration_ns) for name, program in self._programs.items()},
            duration_ns, self._busy_ns, self._runs, self._beyond_bound,
        )  # fmt: skip

    def _until(self, duration_ns: int) -> None:
        events, pop, decide = self._events, heapq.heappop, self._decide
        while events and events[0][0] < duration_ns:
            now_ns, order, program = pop(events)
            kind = order // _ORDER
            if kind == _END:
                if order == self._end_order:  # else something changed when that one ends
                    self._end(now_ns)
            elif kind == _COME:
                self._come(program, now_ns)  # type: ignore[arg-type]
            elif kind == _SUBMIT:
                self._submit(program, now_ns)  # type: ignore[arg-type]
            if not events or events[0][0] != now_ns:
                decide(now_ns)

    # ------------------------------------------------- what happens

    def _push(self, at_ns: int, kind: int, program: Program | None) -> int:
        self._count += 1
        order = kind * _ORDER + self._count
        heapq.heappush(self._events, (at_ns, order, program))
        return order

    def _expect(self, program: Program) -> None:
        """Its next request will come, if there is one."""
        if program.came < len(program.arrivals):
            self._push(program.arrivals[program.came], _COME, program)

    def _come(self, program: Program, now_ns: int) -> None:
        program.came += 1
        self._expect(program)
        if not program.is_busy:
            self._policy.submitted(program.begin(now_ns), now_ns)

    def _submit(self, program: Program, now_ns: int) -> None:
        unit = program.unit() if program.is_busy else program.begin(now_ns)
        self._policy.submitted(unit, now_ns)

    def _end(self, now_ns: int) -> None:
        if self._flights is None:
            run, since_ns = self._flying, self._flying_since_ns
            self._flying = None
        else:
            flight = self._flights.end(now_ns)
            run, since_ns = flight.run, flight.since_ns
            self._expect_end()
        if run is None:
            return
        self._in_flight -= 1
        if not self._in_flight:
            self._busy_ns += now_ns - self._busy_since_ns
        self._policy.finished(run, now_ns)
        program = self._programs[run.unit.job]
        if program.over(run, now_ns - since_ns, now_ns):
            self._go_on(program, now_ns)

    def _go_on(self, program: Program, now_ns: int) -> None:
        """The program turns to its next unit, at once or when it has prepared it."""
        if program.job.gap_ns and (program.is_busy or not program.is_open_loop):
            self._push(now_ns + program.job.gap_ns, _SUBMIT, program)
        elif program.is_busy or program.has_more():
            self._submit(program, now_ns)

    # ------------------------------------------------- what is decided

    def _decide(self, now_ns: int) -> None:
        policy, decision = self._policy, None
        while self._in_flight < policy.capacity:
            if type(decision := policy.next(now_ns)) is not Run:
                break
            self._start(decision, now_ns)
        if type(decision) is WaitUntil and decision.at_ns != self._wake_ns:
            self._wake_ns = decision.at_ns
            self._push(decision.at_ns, _WAKE, None)

    def _start(self, run: Run, now_ns: int) -> None:
        self._policy.started(run, now_ns)
        self._runs += 1
        self._beyond_bound += not run.within_bound
        if not self._in_flight:
            self._busy_since_ns = now_ns
        self._in_flight += 1
        duration_ns = self._programs[run.unit.job].duration_ns(run)
        if self._flights is None:
            self._flying, self._flying_since_ns = run, now_ns
            self._end_order = self._push(now_ns + duration_ns, _END, None)
        else:
            self._flights.start(run, duration_ns, now_ns)
            self._expect_end()

    def _expect_end(self) -> None:
        end_ns = self._flights.next_end_ns() if self._flights is not None else None
        self._end_order = 0 if end_ns is None else self._push(end_ns, _END, None)
