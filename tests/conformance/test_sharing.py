"""What every executor of the isolation experiment owes, with a real job of each class."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from remora.core.errors import BadValue, UnknownName
from remora.systems.beside import sharing
from remora.systems.beside.cores import shared_cores
from remora.systems.beside.executor import Executor, Setting, Stage
from remora.systems.beside.job import BestEffortProcess
from remora.systems.beside.order import Order
from remora.workloads import registry

CPU = torch.device("cpu")
SERVES = "micro-matmul-forward"


ON_CPU = [name for name, each in sharing.EXECUTORS.items() if "cpu" in each.devices]


@pytest.fixture(params=sharing.EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    return sharing.executor(request.param)


@pytest.fixture(params=ON_CPU)
def here(request: pytest.FixtureRequest) -> Executor:
    return sharing.executor(request.param)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_its_policies_are_known_and_no_others(executor: Executor) -> None:
    for policy in executor.policies():
        executor.check(policy)
    with pytest.raises(UnknownName, match="turbo"):
        executor.check("turbo")
    assert executor.alone in executor.policies()


def test_a_policy_is_found_by_name_or_with_its_executor(executor: Executor) -> None:
    for policy in executor.policies():
        assert sharing.parse_way(policy, executor.devices[0]) == (executor.name, policy)
        assert sharing.parse_way(f"{executor.name}/{policy}") == (executor.name, policy)


def test_a_policy_that_nobody_has_is_refused_with_all_there_are() -> None:
    with pytest.raises(UnknownName, match=r"fifo.*plain"):
        sharing.parse_way("turbo")
    with pytest.raises(UnknownName, match="policy 'idle'"):
        sharing.parse_way("software-device/idle")


def test_a_policy_of_other_devices_says_which_to_ask_for() -> None:
    with pytest.raises(BadValue, match=r"policy 'mps' is of the executor cuda.*add --device cuda"):
        sharing.parse_way("mps")


@contextmanager
def stage_of(executor: Executor, folder: Path, policy: str) -> Iterator[Stage]:
    kept = folder / "kept"
    kept.mkdir()
    executor.keep(lambda number: registry.get(SERVES).build("quick", CPU, seed=number), kept)
    setting = Setting(policy, CPU, shared_cores(1), folder / "jobs", is_beside=True, kept=kept)
    stage = executor.stage(setting)
    try:
        yield stage
    finally:
        stage.close()


def job_of(executor: Executor, folder: Path, policy: str, stage: Stage) -> BestEffortProcess:
    order = Order(
        workload="mlp-train",
        scale="quick",
        device="cpu",
        seed=1,
        threads=1,
        cores=list(stage.training_cores),
        executor=executor.name,
        policy=policy,
        meeting=stage.meeting,
        progress=str(folder / "progress"),
    )
    return BestEffortProcess(order, stage.worked)


@pytest.mark.slow
def test_both_jobs_get_on_and_what_each_is_given_is_told(here: Executor, tmp_path: Path) -> None:
    policy = "idle" if "idle" in here.policies() else here.policies()[-1]
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    session = registry.get(SERVES).build("quick", CPU, seed=0)
    with stage_of(here, tmp_path, policy) as stage:
        want = session.step().tensor.clone()
        step = stage.serve(session)
        job = job_of(here, tmp_path, policy, stage)
        try:
            job.run_alone(0.2)
            first, busy_ns = job.read(), stage.busy_ns() or 0
            for _ in range(20):
                got = step()
                time.sleep(0.01)
            later = job.read()
            assert got.tensor.shape == want.shape
            assert later.steps > first.steps
            assert 0 < later.worked_ns - first.worked_ns <= 2 * (later.at_ns - first.at_ns)
            assert (stage.busy_ns() or 0) > busy_ns
        finally:
            job.close()
        stage.close()  # may be called again
    after = {each.pid for each in psutil.Process().children(recursive=True)}
    assert after <= before
    assert os.getpid() not in after
