"""Live mode: a real job killed for real, and the model checked against it; then every detail by a
job that only pretends, on a clock that stands still."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from remora.checkpoint.goodput import (
    Finished,
    Life,
    Live,
    ProgressLog,
    Spawned,
    exponential_failures,
    live_row,
    pace_of,
    read_progress,
    run_live,
)
from remora.core.errors import BadValue, ScriptUnusable

JOB = Path(__file__).with_name("counting_job.py")
WITHIN = 0.10
"""The model is held to this share of what was measured."""


def run_counting(folder: Path, every: int, kills: Sequence[float], seconds: float) -> Live:
    argv = [sys.executable, "-S", "-E", str(JOB), str(folder), str(every)]
    log = folder / "log"
    return run_live(
        argv, folder / "progress", kills, seconds, spawn=lambda argv: Spawned(argv, log)
    )


@pytest.mark.slow  # the machine must be ours alone
@pytest.mark.parametrize("every", [10, 60], ids=lambda every: f"every {every}")
def test_the_model_is_within_ten_percent_of_reality(tmp_path: Path, every: int) -> None:
    kills = exponential_failures(4, mtbf_s=0.7, duration_s=5.0)
    live = run_counting(tmp_path, every, kills, 5.0)
    row = live_row(live, pace_of(live, every))
    assert row.kills == len(kills) >= 5
    assert not live.done
    assert abs(row.error) <= WITHIN, row
    # It really lost work, and the model knows how much: half an interval a kill, give or take.
    assert row.measured_lost_steps > 0
    assert abs(row.predicted_lost_steps - row.measured_lost_steps) <= every * row.kills / 3


@pytest.mark.slow
def test_an_undisturbed_run_predicts_a_disturbed_one(tmp_path: Path) -> None:
    errors = [foretold_by_a_calm_run(tmp_path / "0")]
    # Two runs are two moments of a machine that others may use: one pair in three must agree.
    while errors[-1] > 2 * WITHIN and len(errors) < 3:
        errors.append(foretold_by_a_calm_run(tmp_path / str(len(errors))))
    assert min(errors) <= 2 * WITHIN


def foretold_by_a_calm_run(folder: Path) -> float:
    for name in ("calm", "rough"):
        (folder / name).mkdir(parents=True)
    calm = run_counting(folder / "calm", 40, (), 1.5)
    assert (calm.kills_s, calm.lost_steps, len(calm.lives)) == ((), 0, 1)
    rough = run_counting(folder / "rough", 40, (0.9, 1.7, 2.6, 3.1), 4.0)
    return abs(live_row(rough, pace_of(calm, 40)).error)


def test_a_job_that_is_done_is_not_started_again(tmp_path: Path) -> None:
    argv = [sys.executable, "-S", "-E", str(JOB), str(tmp_path), "10", "30"]
    live = run_live(
        argv, tmp_path / "progress", (), 60.0, spawn=lambda argv: Spawned(argv, tmp_path / "log")
    )
    assert (live.done, live.steps, live.lost_steps, len(live.lives)) == (True, 30, 0, 1)
    assert live.duration_s < 30


def test_a_job_that_fails_says_so(tmp_path: Path) -> None:
    argv = [sys.executable, "-S", "-c", "raise SystemExit(3)"]
    with pytest.raises(ScriptUnusable, match="status 3; see its log"):
        run_live(argv, tmp_path / "p", (), 60.0, spawn=lambda argv: Spawned(argv, tmp_path / "log"))
    with pytest.raises(ScriptUnusable, match="No such file"):
        Spawned([str(tmp_path / "nothing")], tmp_path / "log")


def test_a_kill_reaches_the_jobs_children(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    log = tmp_path / "log"
    job = Spawned([sys.executable, "-S", "-c", script], log)
    try:
        while not log.read_text().endswith("\n"):
            assert job.wait(0.02) is None
        child = psutil.Process(int(log.read_text()))
    finally:
        job.kill()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone or child.status() == psutil.STATUS_ZOMBIE
    job.kill()  # once more does no harm


# ---------------------------------------------------------------- pretended

S = 1_000_000_000


@dataclass
class Pretended:
    """Jobs that start after 2 s, finish a step a second, and resume at multiples of ten."""

    progress: Path
    now: int = 0
    log: list[str] = field(default_factory=list)
    lasts: float = float("inf")
    """After this long a life ends by itself."""

    def spawn(self, argv: Sequence[str]) -> Pretended:
        self.log.append(f"start {self.now / S:g}")
        done = read_progress(self.progress)
        self.step = (done[-1].step + 1) // 10 * 10 if done else 0
        self.next_ns = self.now + 3 * S
        self.ends_ns = self.now + self.lasts * S
        return self

    def wait(self, timeout: float) -> int | None:
        until = min(self.now + round(timeout * S), self.ends_ns)
        writer = ProgressLog(self.progress, lambda: self.next_ns)
        while self.next_ns <= until:
            writer.finished(self.step)
            self.step += 1
            self.next_ns += S
        writer.close()
        self.now = int(until)
        return 0 if until == self.ends_ns else None

    def kill(self) -> None:
        self.log.append(f"kill {self.now / S:g}")

    def run(self, kills: Sequence[float], seconds: float) -> Live:
        return run_live(
            ["job"], self.progress, kills, seconds, spawn=self.spawn, now_ns=lambda: self.now
        )


@pytest.fixture
def jobs(tmp_path: Path) -> Pretended:
    return Pretended(tmp_path / "progress")


def test_it_kills_on_the_second_and_restarts_at_once(jobs: Pretended) -> None:
    live = jobs.run([20.0, 31.5, 99.0], 50.0)
    assert jobs.log == ["start 0", "kill 20", "start 20", "kill 31.5", "start 31.5", "kill 50"]
    assert live.kills_s == (20.0, 31.5)
    # 18 steps, back to 10; 9 more to 19, back to 10; 16 more
    assert [len(life.steps) for life in live.lives] == [18, 9, 16]
    assert (live.steps, live.lost_steps, live.duration_s) == (26, 17, 50.0)
    assert live.steps_per_hour == 26 / 50 * 3600
    assert [life.start_up_s for life in live.lives] == [2.0, 2.0, 2.0]


def test_the_replay_of_a_job_without_noise_is_exact(jobs: Pretended) -> None:
    live = jobs.run([20.0, 31.5, 33.0, 80.0], 120.0)
    row = live_row(live, pace_of(live, 10))
    assert (row.step_s, row.down_s) == (1.0, 2.0)
    assert row.error == 0
    assert row.predicted_lost_steps == row.measured_lost_steps


def test_a_restart_takes_as_long_as_restarts_do_and_not_the_first_start(jobs: Pretended) -> None:
    # GIVEN a first start that takes 10 s longer, as one with a cold cache does
    live = jobs.run([20.0, 40.0], 60.0)
    first, *others = live.lives
    late = replace(first, started_ns=first.started_ns - 10 * S)
    pace = pace_of(replace(live, lives=(late, *others)), 10)
    assert (pace.first_down_s, pace.down_s) == (12.0, 2.0)


def test_what_stood_in_the_progress_file_is_another_runs(jobs: Pretended) -> None:
    jobs.run([], 25.0)
    live = jobs.run([], 10.0)
    assert live.lives[0].steps[0].step == 20
    assert live.steps == 8


def test_so_is_what_was_written_before_the_machines_clock_began_again(jobs: Pretended) -> None:
    jobs.progress.write_text(f"509 {5 * S}\n")
    live = jobs.run([], 10.0)
    assert [each.step for each in live.lives[0].steps] == list(range(510, 518))


def test_a_life_that_ends_by_itself_ends_the_run(jobs: Pretended) -> None:
    jobs.lasts = 30.0
    live = jobs.run([20.0], 100.0)
    assert (live.done, live.duration_s, len(live.lives)) == (True, 50.0, 2)


def test_a_job_without_two_steps_has_no_pace(jobs: Pretended) -> None:
    live = jobs.run([1.0, 2.0], 3.0)
    assert (live.steps, live.lost_steps, live.lives[0].start_up_s) == (0, 0, None)
    with pytest.raises(BadValue, match="two steps in one life"):
        pace_of(live, 10)


@pytest.mark.parametrize(
    ("kills", "seconds"), [([2.0, 1.0], 10.0), ([-1.0], 10.0), ([], 0.0)], ids=str
)
def test_schedules_that_cannot_be_are_refused(
    jobs: Pretended, kills: list[float], seconds: float
) -> None:
    with pytest.raises(BadValue, match="in order"):
        jobs.run(kills, seconds)
    assert jobs.log == []


# ---------------------------------------------------------------- the progress file


def test_what_is_logged_is_read_back(tmp_path: Path) -> None:
    ticks = iter(range(100, 200, 10))
    log = ProgressLog(tmp_path / "p", lambda: next(ticks))
    for step in (7, 8, 5):
        log.finished(step)
    log.close()
    assert read_progress(tmp_path / "p") == (Finished(7, 100), Finished(8, 110), Finished(5, 120))


def test_a_file_that_is_not_there_has_no_steps(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "p") == ()


def test_a_last_line_without_its_end_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"0 5\n1 6\n2 7")
    assert [each.step for each in read_progress(tmp_path / "p")] == [0, 1]


@pytest.mark.parametrize("line", [b"x 5", b"1", b"1 2 3", b"-1 5", b"1  5", b"\xff 5"], ids=repr)
def test_a_line_that_is_none_is_said(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "p").write_bytes(b"0 5\n" + line + b"\n2 7\n")
    with pytest.raises(BadValue, match=r"p, line 2: .* is not '<step> <nanoseconds>'"):
        read_progress(tmp_path / "p")


def test_a_life_of_one_step_has_no_known_start() -> None:
    assert Life(0, 10, True, (Finished(0, 5),)).start_up_s is None
