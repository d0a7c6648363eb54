"""The simulator against queueing theory, against what was published, and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.share.executor import BEST_EFFORT, HIGH, MS

from remora.core.errors import BadValue
from remora.share.arrivals.poisson import Poisson
from remora.share.policies.contract import Cut, Policy, Priority, Resource
from remora.share.policies.registry import POLICIES, create, parse_choice
from remora.share.simulator import EXECUTOR
from remora.share.simulator.jobs import Contention, Device, Job, Piece
from remora.share.simulator.results import DeviceResult, JobResult
from remora.share.simulator.scenario import Scenario
from remora.share.simulator.simulate import simulate, simulate_all

S = 1_000 * MS
Service = Callable[[np.random.Generator, int], NDArray[np.float64]]


def policy(name: str, capacity: int = 1, **options: int | float) -> Callable[[], Policy]:
    return lambda: create(name, options, capacity=capacity)


def serve(*arrivals_ms: float, units_ms: tuple[float, ...] = (10,), gap_ms: float = 0) -> Job:
    moments = np.array([round(each * MS) for each in arrivals_ms], dtype=np.int64)
    pieces = tuple(Piece(round(each * MS), Resource.COMPUTE) for each in units_ms)
    return Job("serve", HIGH, pieces, moments, gap_ns=round(gap_ms * MS))


def train(*units_ms: float, cuts: tuple[Cut, ...] = (), gap_ms: float = 0) -> Job:
    pieces = tuple(Piece(round(each * MS), Resource.MEMORY, cuts) for each in units_ms)
    return Job("train", BEST_EFFORT, pieces, gap_ns=round(gap_ms * MS))


def run(*jobs: Job, by: Callable[[], Policy], for_ms: int = 200) -> DeviceResult:
    return simulate(Device(jobs, by, for_ms * MS))


# ------------------------------------------------- by hand


def test_a_request_waits_for_the_unit_in_flight_and_for_those_before_it() -> None:
    result = run(serve(5, 6, 100), train(44), by=policy("priority"))
    job = result.jobs["serve"]
    assert (job.finished_ns / MS).tolist() == [54, 64, 118]
    assert (job.response_ns() / MS).tolist() == [49, 58, 18]
    assert (job.service_ns() / MS).tolist() == [49, 10, 18]
    assert result.jobs["train"].finished_ns.tolist() == [44 * MS, 108 * MS, 162 * MS, -1]


def test_of_what_happens_at_one_moment_the_policy_hears_all_and_ends_come_first() -> None:
    """At 44 ms a unit ends, its job submits the next, and a request comes."""
    by_class = run(serve(44), train(44), by=policy("priority"))
    assert by_class.jobs["serve"].finished_ns.tolist() == [54 * MS]
    by_arrival = run(serve(44), train(44), by=policy("fifo"))
    assert by_arrival.jobs["serve"].finished_ns.tolist() == [98 * MS]


def test_best_effort_units_are_counted_when_they_are_done() -> None:
    result = run(train(44, 6), by=policy("priority"), for_ms=101)
    job = result.jobs["train"]
    assert (job.units_done, job.useful_ns, job.device_ns) == (4, 100 * MS, 100 * MS)
    assert job.arrivals_ns.tolist() == [0, 50 * MS, 100 * MS]
    assert job.unfinished == 1
    assert (result.busy_ns, result.utilisation) == (101 * MS, 1.0)


def test_gaps_leave_the_device_to_others() -> None:
    alone = run(serve(0, units_ms=(2, 2), gap_ms=1), by=policy("fifo"))
    assert alone.jobs["serve"].finished_ns.tolist() == [5 * MS]
    assert alone.busy_ns == 4 * MS
    both = run(serve(0, units_ms=(2, 2), gap_ms=1), train(10), by=policy("priority"))
    assert both.jobs["serve"].finished_ns.tolist() == [14 * MS]
    waiting = run(
        serve(0, units_ms=(2, 2), gap_ms=1),
        train(10),
        by=policy("priority+min-wait", min_wait_ns=2 * MS),
    )
    assert waiting.jobs["serve"].finished_ns.tolist() == [5 * MS]


def test_slices_cost_what_they_cost() -> None:
    cuts = (Cut(4, 12 * MS),)
    by = policy("priority+slicing", turnaround_ns=12 * MS, min_wait_ns=0)
    result = run(serve(0, 25), train(44, cuts=cuts), by=by, for_ms=69)
    assert result.jobs["serve"].finished_ns.tolist() == [10 * MS, 44 * MS]
    job = result.jobs["train"]
    assert (job.units_done, job.useful_ns, job.device_ns) == (1, 44 * MS, 48 * MS)
    assert result.runs == 6 + 1
    assert result.beyond_bound == 0


def test_true_durations_may_differ_from_those_expected() -> None:
    rows = np.array([[20 * MS], [5 * MS]], dtype=np.int64)
    job = Job("serve", HIGH, (Piece(10 * MS),), np.array([0, 1, 2]), durations_ns=rows)
    result = run(job, by=policy("fifo"))
    assert (result.jobs["serve"].finished_ns / MS).tolist() == [20, 25, 45]


def test_each_request_has_its_own_deadline() -> None:
    """Both are asked for while a unit of 20 ms runs; the one that came later is due sooner."""
    busy = Job("busy", HIGH, (Piece(20 * MS),), np.array([0]))
    patient = Job("a", HIGH, (Piece(10 * MS),), np.array([5 * MS]), deadline_ns=100 * MS)
    urgent = Job("b", HIGH, (Piece(10 * MS),), np.array([6 * MS, 31 * MS]), deadline_ns=50 * MS)
    jobs = run(busy, patient, urgent, by=policy("earliest-deadline")).jobs
    assert (jobs["b"].finished_ns / MS).tolist() == [30, 50]
    assert (jobs["a"].finished_ns / MS).tolist() == [40]


def test_what_was_not_done_waited_at_least_until_then() -> None:
    job = run(serve(0, 189, 195), by=policy("fifo")).jobs["serve"]
    assert job.unfinished == 1
    assert (job.response_ns() / MS).tolist() == [10, 10, 5]
    assert job.service_ns().size == 2


def test_backlog_is_what_came_and_is_not_done() -> None:
    job = run(serve(0, 1, 2, 100), by=policy("fifo")).jobs["serve"]
    moments = np.array([0, 1, 2, 10, 20, 30, 99, 100, 110]) * MS
    assert job.backlog(moments).tolist() == [1, 2, 3, 2, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(("load", "unstable"), [(0.5, False), (0.9, False), (1.1, True), (2, True)])
@pytest.mark.parametrize("seed", range(3))
def test_a_queue_that_grows_is_unstable(load: float, unstable: bool, seed: int) -> None:
    moments = Poisson().draw(load * 100, 100 * S, seed)
    job = Job("serve", HIGH, (Piece(10 * MS),), moments)
    result = run(job, by=policy("fifo"), for_ms=100_000)
    assert result.jobs["serve"].is_unstable() is unstable


def test_two_of_one_resource_share_it_and_two_that_complement_do_not() -> None:
    first = Job("a", HIGH, (Piece(10 * MS, Resource.COMPUTE),), np.array([0]))
    same = Job("b", HIGH, (Piece(10 * MS, Resource.COMPUTE),), np.array([5 * MS]))
    other = Job("b", HIGH, (Piece(10 * MS, Resource.MEMORY),), np.array([5 * MS]))
    for second, contention, ends in [
        (same, Contention(), [15, 20]),
        (other, Contention(), [10, 15]),
        (other, Contention(1.25), [11.25, 16.25]),
    ]:
        jobs = simulate(Device((first, second), policy("fifo", 2), S, contention)).jobs
        assert [jobs[name].finished_ns[0] / MS for name in "ab"] == pytest.approx(ends)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Piece(0), "no work"),
        (lambda: Job("a", HIGH, ()), "has no units"),
        (
            lambda: Job("a", HIGH, (Piece(1),), durations_ns=np.ones((3, 2), np.int64)),
            r"\(requests",
        ),
        (lambda: Device((train(1), train(2)), policy("fifo"), S), "two jobs have one name"),
        (lambda: Device((), policy("fifo"), 0), "no time"),
        (lambda: Contention(0.5), "no faster than each"),
    ],
)
def test_what_cannot_be_simulated_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(BadValue, match=says):
        make()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(POLICIES)),
    capacity=st.integers(1, 3),
    moments=st.lists(st.integers(0, 300 * MS), max_size=15).map(sorted),
    units=st.lists(st.integers(1, 20 * MS), min_size=1, max_size=3),
    gap=st.sampled_from([0, MS]),
)
def test_nothing_is_lost_and_nothing_is_made_up(
    name: str, capacity: int, moments: list[int], units: list[int], gap: int
) -> None:
    """Every request is done in the end, in order; the device worked as long as its jobs used it."""
    pieces = tuple(Piece(each, Resource.COMPUTE, (Cut(3, each),)) for each in units)
    serving = Job("serve", HIGH, pieces, np.array(moments, dtype=np.int64), gap_ns=gap)
    result = simulate(Device((serving, train(3, 1)), policy(name, capacity), 3 * S))
    job, other = result.jobs["serve"], result.jobs["train"]
    assert job.unfinished == 0
    assert np.all(np.diff(job.finished_ns) >= sum(units))
    assert np.all(job.response_ns() >= job.service_ns())
    if capacity == 1:
        assert np.all(job.service_ns() >= sum(units) + gap * (len(units) - 1))
        assert 0 <= result.busy_ns - job.device_ns - other.device_ns <= 3 * MS
    again = simulate(Device((serving, train(3, 1)), policy(name, capacity), 3 * S))
    assert np.array_equal(again.jobs["serve"].finished_ns, job.finished_ns)


# ------------------------------------------------- against queueing theory


def queue(
    name: str, priority: Priority, load: float, mean_ms: float, seed: int, service: Service
) -> Job:
    """Poisson arrivals for 200 s, service times of mean ``mean_ms``."""
    moments = Poisson().draw(load / mean_ms * 1000, 200 * S, seed)
    drawn = service(np.random.default_rng(seed + 1000), moments.size) * mean_ms * MS
    durations = np.maximum(1, np.rint(drawn)).astype(np.int64)[:, None]
    return Job(name, priority, (Piece(round(mean_ms * MS)),), moments, durations_ns=durations)


def exponential(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    return rng.exponential(size=size)


def deterministic(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    return np.ones(size)


def hyperexponential(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Of mean 1 − √½ or 1 + √½, as a coin falls: the second moment is 3."""
    means = np.where(rng.uniform(size=size) < 0.5, 1 - 0.5**0.5, 1 + 0.5**0.5)
    drawn: NDArray[np.float64] = means * rng.exponential(size=size)
    return drawn


SECOND_MOMENT: dict[Service, float] = {exponential: 2.0, deterministic: 1.0, hyperexponential: 3.0}


def mean_waits_ms(jobs: Callable[[int], tuple[Job, ...]], name: str) -> NDArray[np.float64]:
    """Of each job, over ten replications: shape (replications, jobs)."""
    waits = []
    for seed in range(10):
        made = jobs(seed)
        result = simulate(Device(made, policy(name), 200 * S))
        waits.append([wait_ms(result.jobs[job.name], job) for job in made])
    return np.array(waits)


def wait_ms(result: JobResult, job: Job) -> float:
    assert job.durations_ns is not None
    return float((result.response_ns() - job.durations_ns[:, 0]).mean() / MS)


def agrees(waits: NDArray[np.float64], expected_ms: float) -> None:
    error = waits.std(ddof=1) / np.sqrt(waits.size)
    assert abs(waits.mean() - expected_ms) < 4 * error
    assert error < 0.1 * expected_ms


@pytest.mark.parametrize("service", [exponential, deterministic, hyperexponential])
def test_one_queue_waits_as_pollaczek_and_khinchine_say(service: Service) -> None:
    """M/M/1, M/D/1, M/G/1: W = λ E[S²] / (2 (1 − ρ))."""
    load, mean_ms = 0.6, 10.0
    waits = mean_waits_ms(
        lambda seed: (queue("serve", HIGH, load, mean_ms, seed, service),), "fifo"
    )
    expected = load * mean_ms * SECOND_MOMENT[service] / (2 * (1 - load))
    agrees(waits[:, 0], expected)


def test_two_classes_wait_as_cobham_says() -> None:
    """M/G/1 with priorities that do not preempt (Cobham 1954): with W₀ = Σ λ E[S²] / 2,
    W₀ / (1 − ρ₁) and W₀ / ((1 − ρ₁) (1 − ρ₁ − ρ₂))."""
    waits = mean_waits_ms(
        lambda seed: (
            queue("serve", HIGH, 0.4, 10.0, seed, exponential),
            queue("train", BEST_EFFORT, 0.3, 30.0, seed + 500, deterministic),
        ),
        "priority",
    )
    residual_ms = (0.4 * 10 * 2 + 0.3 * 30 * 1) / 2
    agrees(waits[:, 0], residual_ms / 0.6)
    agrees(waits[:, 1], residual_ms / (0.6 * 0.3))


# ------------------------------------------------- against what was published


def p99_ms(result: DeviceResult) -> float:
    return float(np.quantile(result.jobs["serve"].response_ns(), 0.99) / MS)


def test_the_published_order_on_a_device_that_cannot_preempt() -> None:
    """High priority 10 ms a request at load 0.5, best effort 44 ms an operator: first come first
    served and priority alone have a growing queue, waiting mends that, slices nearly all."""
    moments = Poisson().draw(50, 120 * S, 1)
    serving = Job("serve", HIGH, (Piece(982_000),) * 10, moments, gap_ns=20_000)
    cuts = tuple(Cut(count, 44 * MS // count + 16_000) for count in range(2, 65))
    jobs = (serving, train(44, cuts=cuts))
    alone = p99_ms(run(serving, by=policy("fifo"), for_ms=120_000))
    results = {
        name: run(*jobs, by=by, for_ms=120_000)
        for name, by in {
            "fifo": policy("fifo"),
            "turns": policy("round-robin"),
            "priority": policy("priority"),
            "wait": policy("priority+min-wait", min_wait_ns=MS),
            "slices": policy("priority+slicing", turnaround_ns=3 * MS, min_wait_ns=MS),
        }.items()
    }
    by_name = {name: p99_ms(result) / alone for name, result in results.items()}
    assert by_name["slices"] < 1.15
    assert 1.3 < by_name["wait"] < 4
    assert min(by_name[name] for name in ("fifo", "turns", "priority")) > 100
    unstable = {name for name, result in results.items() if result.jobs["serve"].is_unstable()}
    assert unstable == {"fifo", "turns", "priority"}
    got = {n: r.jobs["train"].useful_ns / r.duration_ns for n, r in results.items()}
    assert got["fifo"] > 0.9
    assert 0.4 < got["slices"] <= got["wait"] + 0.02 < 0.55


def test_processes_side_by_side_yield_the_same_in_the_same_order() -> None:
    scenario = Scenario(10 * MS, 0.5, 44 * MS, duration_ns=2 * S, devices=3)
    devices = list(scenario.under(parse_choice("priority+slicing:turnaround=3ms").create))
    alone, beside = (list(simulate_all(devices, processes)) for processes in (1, 2))
    for one, two in zip(alone, beside, strict=True):
        assert one.busy_ns == two.busy_ns
        assert np.array_equal(one.jobs["serve"].finished_ns, two.jobs["serve"].finished_ns)
    with pytest.raises(BadValue, match="choose 1 or more"):
        list(simulate_all(devices, 0))


def test_every_result_says_what_made_it() -> None:
    assert run(train(1), by=policy("fifo")).executor == EXECUTOR == "simulator"
