"""One trial, from inside its own process: build, attach, step, drain (rules 6, 9, 10)."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch

from remora.core.clock import Clock
from remora.core.errors import BadValue
from remora.lab import preparing
from remora.lab.device import DeviceProbe
from remora.lab.results import Costs, Requests, Samples, StartUp, Trial, TrialSpec
from remora.systems import registry as systems
from remora.systems.contract import Ride
from remora.workloads import registry as workloads
from remora.workloads.contract import SCALES, Outcome, Scale, Session

DIGESTED_STEPS = 8
"""Outcomes of so many first steps are fingerprinted whole; later ones give their value only."""


@dataclass
class _Recorder:
    """Raw samples as they come."""

    step_ns: list[int] = field(default_factory=list)
    step_cpu_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    first_at_ns: int | None = None
    """When the running step told that its first unit of work was known, on the clock."""

    def tell_first(self, now_ns: int) -> None:
        if self.first_at_ns is None:
            self.first_at_ns = now_ns

    def begin(self) -> None:
        self.first_at_ns = None

    def add(self, began_ns: int, wall_ns: int, cpu_ns: int, outcome: Outcome) -> None:
        if self.first_at_ns is not None:
            self.first_ns.append(self.first_at_ns - began_ns)
        self.step_ns.append(wall_ns)
        self.step_cpu_ns.append(cpu_ns)
        self.values.append(outcome.value)
        if len(self.digests) < DIGESTED_STEPS:
            self.digests.append(outcome.digest)

    def samples(self, ride: Ride) -> Samples:
        return Samples(
            step_ns=self.step_ns,
            step_cpu_ns=self.step_cpu_ns,
            values=self.values,
            digests=self.digests,
            stall_ns=list(ride.stalls_ns),
            durable_ns=list(ride.durable_ns),
            first_ns=self.first_ns if len(self.first_ns) == len(self.step_ns) else [],
            requests=_requests(ride) if ride.open_loop else None,
        )


def _requests(ride: Ride) -> Requests:
    return Requests(came_ns=list(ride.came_ns), late_ns=list(ride.late_ns), ended_ns=ride.ended_ns)


def build_session(spec: TrialSpec, device: torch.device) -> Session:
    """The workload's session, as the trial asks for it."""
    scale: Scale = next(each for each in SCALES if each == (spec.arm.scale or spec.scale))
    data = Path(spec.data) if spec.data else None
    return workloads.get(spec.arm.workload).build(scale, device, seed=spec.seed, data=data)


def prepare(spec: TrialSpec, kept: Path, clock: Clock) -> None:
    """Make in ``kept`` what the trial's system needs once for all trials of the workload."""
    _settle(spec)

    def another(number: int) -> Session:
        other = msgspec.structs.replace(spec, seed=spec.seed + number)
        return build_session(other, torch.device(spec.device))

    system = systems.create(spec.arm.system, spec.arm.options)
    preparing.make(system, another, kept / system.preparation(), clock)


def _settle(spec: TrialSpec) -> None:
    torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)


def measure(
    spec: TrialSpec,
    directory: Path,
    clock: Clock,
    *,
    asked_ns: int,
    entered_ns: int,
    kept: Path | None = None,
) -> Trial:
    """Run the trial in this process and return what was seen.

    Args:
        directory: an empty folder for what the system stores.
        asked_ns: when the process was asked for, on ``clock``.
        entered_ns: when its first line of ours ran.
        kept: the folder of what was prepared for the workload.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    _settle(spec)
    imported_ns = clock.wall_ns()
    device = torch.device(spec.device)
    session = build_session(spec, device)
    built_ns = clock.wall_ns()
    system, prepare_ns = preparing.ready(
        systems.create(spec.arm.system, spec.arm.options), kept or directory
    )
    ride = system.ride(session, directory)
    attached_ns = clock.wall_ns()
    probe = DeviceProbe(device)
    try:
        recorder = _Recorder()
        timed = _timed_step(ride, probe, clock, spec.arm.inject, recorder)
        if ride.open_loop:
            ride.begin_requests(spec.seconds, spec.seed + spec.block)
            _step_at_requests(spec, timed, ride)
        else:
            _step_until_done(spec, timed, clock, ride.period)
        costs = _finish(ride, probe, clock, recorder)
        start_up = StartUp(
            spawn_ns=entered_ns - asked_ns,
            import_ns=imported_ns - entered_ns,
            build_ns=built_ns - imported_ns,
            attach_ns=attached_ns - built_ns,
            first_step_ns=recorder.step_ns[0],
            prepare_ns=prepare_ns,
        )
        return Trial(
            spec=spec,
            started=started,
            period=ride.period,
            work_count=session.work.count,
            work_unit=session.work.unit,
            samples=recorder.samples(ride),
            start_up=start_up,
            costs=costs,
            counts=dict(ride.counts()),
        )
    finally:
        ride.close()
        session.close()


def _timed_step(
    ride: Ride, probe: DeviceProbe, clock: Clock, inject: float, recorder: _Recorder
) -> Callable[[], None]:
    """A step under the clock. Outcomes are read after the clock has stopped."""

    ride.session.on_first = lambda: recorder.tell_first(clock.wall_ns())

    def step() -> None:
        recorder.begin()
        cpu_ns, began_ns = clock.cpu_ns(), clock.wall_ns()
        outcome = ride.step()
        probe.synchronize()
        if inject:
            _spin(clock, began_ns, inject)
        wall_ns = clock.wall_ns() - began_ns
        recorder.add(began_ns, wall_ns, clock.cpu_ns() - cpu_ns, outcome)

    return step


def _spin(clock: Clock, began_ns: int, share: float) -> None:
    """Burn ``share`` of the time since ``began_ns``: the known overhead of an injected arm."""
    now_ns = clock.wall_ns()
    until_ns = now_ns + round((now_ns - began_ns) * share)
    while clock.wall_ns() < until_ns:
        pass


def _step_until_done(spec: TrialSpec, step: Callable[[], None], clock: Clock, period: int) -> None:
    """Step for ``spec.seconds``, within the wanted numbers of steps, in whole periods."""
    began_ns, steps = clock.wall_ns(), 0
    limit = spec.arm.most_steps or spec.max_steps
    least = max(_whole(min(spec.min_steps, limit), period), spec.min_periods * period)
    most = max(least, _whole(limit, period))
    while steps < most:
        step()
        steps += 1
        enough = steps >= least and steps % period == 0
        if enough and clock.wall_ns() - began_ns >= spec.seconds * 1e9:
            return


def _step_at_requests(spec: TrialSpec, step: Callable[[], None], ride: Ride) -> None:
    """A step for each request, for as long as requests come: their number is theirs to say."""
    while ride.wait():
        step()
    if not ride.late_ns:
        raise BadValue(
            f"no request was served in {spec.seconds:g} s; choose more --seconds, or a higher load"
        )


def _whole(steps: int, period: int) -> int:
    return -(-steps // period) * period


def _finish(ride: Ride, probe: DeviceProbe, clock: Clock, recorder: _Recorder) -> Costs:
    """Wait for everything the system has begun, then read the meters."""
    cpu_ns, began_ns = clock.cpu_ns(), clock.wall_ns()
    ride.drain()
    probe.synchronize()
    drain_ns = clock.wall_ns() - began_ns
    drain_cpu_ns = clock.cpu_ns() - cpu_ns
    moved = ride.moved()
    return Costs(
        drain_ns=drain_ns,
        cpu_ns=sum(recorder.step_cpu_ns) + drain_cpu_ns,
        peak_rss_bytes=_peak_rss_bytes(),
        disk_bytes=moved.disk_bytes,
        wire_bytes=moved.wire_bytes,
        wire_sent_bytes=moved.sent_bytes,
        wire_received_bytes=moved.received_bytes,
        gpu_utilization=probe.utilization(),
        gpu_peak_bytes=probe.peak_bytes() if ride.in_process else None,
    )


def _peak_rss_bytes() -> int:
    """Most memory resident at once. The kernel's own high-water mark of this address space:
    ``ru_maxrss`` survives exec, so a spawned process would report its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
