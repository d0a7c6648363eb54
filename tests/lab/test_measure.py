"""The measuring loop: whole periods, known injections, outcomes read outside the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tests.lab.builders import make_spec
from tests.systems.builders import TinySession

from remora.core.clock import ManualClock
from remora.core.errors import BadValue
from remora.lab import measure as module
from remora.lab.measure import DIGESTED_STEPS, measure
from remora.lab.results import Arm, Option, Requests, Samples, Trial
from remora.systems import registry as systems
from remora.systems.contract import Ride
from remora.systems.native import Native
from remora.workloads.contract import Outcome, Session

STEP_NS = 10_000_000


class TickingClock(ManualClock):
    """Moves by a microsecond whenever it is read, so that spinning ends."""

    def wall_ns(self) -> int:
        self.advance(1000)
        return self.now_ns


class TimedSession(TinySession):
    """Each step takes ten milliseconds of the clock; reading an outcome takes a second."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock, self.closed = clock, 0

    def step(self) -> Outcome:
        self.clock.advance(STEP_NS)
        return SlowToRead(super().step().tensor, self.clock)

    def close(self) -> None:
        self.closed += 1


class SlowToRead(Outcome):
    def __init__(self, tensor: torch.Tensor, clock: ManualClock) -> None:
        super().__init__(tensor)
        self.clock = clock

    @property
    def value(self) -> float:
        self.clock.advance(10**9)
        return float(self.tensor)


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def session(clock: TickingClock, monkeypatch: pytest.MonkeyPatch) -> TimedSession:
    session = TimedSession(clock)
    monkeypatch.setattr(module, "build_session", lambda spec, device: session)
    return session


def run(
    clock: TickingClock,
    directory: Path,
    system: str = "native",
    inject: float = 0.0,
    options: dict[str, Option] | None = None,
    **changes: object,
) -> Trial:
    arm = Arm(
        workload="tiny",
        system=system,
        label="x",
        role="system",
        options=options or {},
        inject=inject,
    )
    trial = measure(make_spec(arm, **changes), directory, clock, asked_ns=0, entered_ns=5)
    assert msgspec.json.decode(msgspec.json.encode(trial), type=Trial) == trial
    return trial


def samples(trial: Trial) -> Samples:
    assert trial.samples is not None
    return trial.samples


@pytest.mark.usefixtures("session")
def test_outcomes_are_read_outside_the_clock(clock: TickingClock, tmp_path: Path) -> None:
    taken = samples(run(clock, tmp_path, max_steps=12))
    assert all(STEP_NS <= ns < STEP_NS * 1.01 for ns in taken.step_ns)
    assert len(taken.values) == len(taken.step_ns) == len(taken.step_cpu_ns)
    assert len(taken.digests) == min(DIGESTED_STEPS, len(taken.step_ns))


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"seconds": 0.0, "min_steps": 7, "max_steps": 50}, 7),
        ({"seconds": 1e9, "min_steps": 1, "max_steps": 9}, 9),
        ({"seconds": 3.02, "min_steps": 1, "max_steps": 50}, 3),
    ],
)
def test_steps_stay_within_their_limits(
    clock: TickingClock, tmp_path: Path, limits: dict[str, Any], steps: int
) -> None:
    assert len(samples(run(clock, tmp_path, **limits)).step_ns) == steps


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("every", [1, 3, 4])
def test_a_trial_is_a_whole_number_of_periods(
    clock: TickingClock, tmp_path: Path, every: int
) -> None:
    options: dict[str, Option] = {"every": every}
    trial = run(clock, tmp_path, "torch-save", options=options, min_steps=7, seconds=0.0)
    assert len(samples(trial).step_ns) % every == 0
    assert len(samples(trial).step_ns) >= 7
    assert len(samples(trial).stall_ns) == len(samples(trial).step_ns) // every
    assert trial.period == every


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_an_injected_share_is_added_to_every_step(
    clock: TickingClock, tmp_path: Path, share: float
) -> None:
    for ns in samples(run(clock, tmp_path, inject=share, max_steps=10)).step_ns:
        assert ns == pytest.approx(STEP_NS * (1 + share), rel=0.002)


def test_the_session_is_closed_when_a_step_raises(
    session: TimedSession,
    clock: TickingClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> Outcome:
        raise RuntimeError("no")

    monkeypatch.setattr(session, "step", broken)
    with pytest.raises(RuntimeError, match="no"):
        run(clock, tmp_path)
    assert session.closed == 1


@pytest.mark.usefixtures("session")
def test_start_up_is_told_apart(clock: TickingClock, tmp_path: Path) -> None:
    trial = run(clock, tmp_path)
    assert trial.start_up is not None
    assert trial.start_up.spawn_ns == 5
    assert trial.start_up.first_step_ns == samples(trial).step_ns[0]


@pytest.mark.usefixtures("session")
def test_a_trial_holds_its_fewest_periods_whatever_the_most_steps(
    clock: TickingClock, tmp_path: Path
) -> None:
    options: dict[str, Option] = {"every": 7}
    trial = run(
        clock, tmp_path, "torch-save", options=options, min_steps=1, max_steps=10, min_periods=3,
        seconds=0.0,
    )  # fmt: skip
    assert len(samples(trial).step_ns) == 21
    assert len(samples(trial).durable_ns) == 3


class TellingSession(TimedSession):
    """Tells of two tokens, after a tenth of a step each, in every other step or in all."""

    def __init__(self, clock: ManualClock, tells: tuple[bool, bool]) -> None:
        super().__init__(clock)
        self.tells, self.steps = tells, 0

    def step(self) -> Outcome:
        for _ in range(2):
            self.clock.advance(STEP_NS // 10)
            if self.tells[self.steps % 2]:
                self.first_is_known()
        self.steps += 1
        return super().step()


@pytest.mark.parametrize("tells", [(True, True), (True, False), (False, False)])
def test_when_the_first_token_was_known_is_that_of_every_step_or_of_none(
    tells: tuple[bool, bool], clock: TickingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = TellingSession(clock, tells)
    monkeypatch.setattr(module, "build_session", lambda spec, device: session)
    found = samples(run(clock, tmp_path, seconds=0.1))
    assert len(found.step_ns) > 2
    if tells == (True, True):
        assert len(found.first_ns) == len(found.step_ns)
        assert all(abs(ns - STEP_NS // 10) < 5000 for ns in found.first_ns)
    else:
        assert found.first_ns == []


class _OpenRide(Ride):
    """Three requests, each later than the one before."""

    open_loop = True

    def begin_requests(self, seconds: float, seed: int) -> None:
        self.asked = (seconds, seed)
        self.came_ns = [5, 6, 7, 8]

    def wait(self) -> bool:
        if len(self.late_ns) == 3:
            self.ended_ns = 99
            return False
        self.late_ns.append(10 * len(self.late_ns))
        return True


class _Waiting(Native):
    def ride(self, session: Session, directory: Path) -> Ride:
        return _OpenRide(session)


@pytest.mark.usefixtures("session")
def test_in_an_open_loop_there_is_a_step_for_each_request(
    clock: TickingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "create", lambda name, options: _Waiting())
    taken = samples(run(clock, tmp_path, max_steps=1, min_steps=9))
    assert len(taken.step_ns) == 3
    assert taken.requests == Requests(came_ns=[5, 6, 7, 8], late_ns=[0, 10, 20], ended_ns=99)


@pytest.mark.usefixtures("session")
def test_a_closed_loop_has_no_requests(clock: TickingClock, tmp_path: Path) -> None:
    assert samples(run(clock, tmp_path, max_steps=3)).requests is None


class _Empty(_Waiting):
    def ride(self, session: Session, directory: Path) -> Ride:
        ride = _OpenRide(session)
        ride.wait = lambda: False  # type: ignore[method-assign]
        return ride


@pytest.mark.usefixtures("session")
def test_a_trial_without_a_request_says_what_to_choose(
    clock: TickingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "create", lambda name, options: _Empty())
    with pytest.raises(BadValue, match="choose more --seconds"):
        run(clock, tmp_path)
