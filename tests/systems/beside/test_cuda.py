"""A GPU as executor: how it is shared is looked at, said, and never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.core.errors import BadValue, Unavailable, UnknownName
from remora.experiments import isolation
from remora.systems.beside import sharing
from remora.systems.beside.cuda import mps_runs
from remora.systems.beside.order import Order


@pytest.fixture
def pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an MPS daemon would have its pipes."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    return tmp_path


def order(policy: str, folder: Path) -> Order:
    return Order(
        workload="mlp-train",
        scale="quick",
        device="cuda",
        seed=1,
        threads=1,
        cores=[0],
        executor="cuda",
        policy=policy,
        meeting=str(folder / "jobs"),
        progress=str(folder / "progress"),
    )


def test_mps_is_there_where_its_control_pipe_is(pipes: Path) -> None:
    assert not mps_runs()
    (pipes / "control").touch()
    assert mps_runs()


def test_a_row_of_mps_wants_its_daemon_and_others_want_none(pipes: Path) -> None:
    cuda = sharing.executor("cuda")
    with pytest.raises(Unavailable, match="start one"):
        cuda.train(order("mps", pipes))
    cuda.train(order("time-slicing", pipes))
    (pipes / "control").touch()
    cuda.train(order("mps", pipes))
    for policy in ("time-slicing", "gate"):
        with pytest.raises(Unavailable, match=f"{policy}: an MPS daemon runs here"):
            cuda.train(order(policy, pipes))


def test_the_gate_has_the_options_of_its_policy_and_the_others_have_none() -> None:
    cuda = sharing.executor("cuda")
    cuda.check("gate:policy=priority+slicing,turnaround=0.1ms")
    with pytest.raises(UnknownName):
        cuda.check("gate:policy=turbo")
    with pytest.raises(UnknownName):
        cuda.check("mps:percentage=50")


def test_on_a_gpu_the_experiment_has_its_policies() -> None:
    design = isolation.tailored(isolation.DESIGN, (), "", (), "cuda")
    rows = [row for row in design.systems["quick"] if row.options.get("job")]
    assert {row.options["executor"] for row in rows} == {"cuda"}
    assert {row.options["policy"] for row in rows} == {"time-slicing", "gate"}
    named = isolation.tailored(isolation.DESIGN, (), "bert:gpt2", ("mps",), "cuda")
    (row,) = (row for row in named.systems["quick"] if row.options.get("job"))
    assert (row.options["executor"], row.options["policy"]) == ("cuda", "mps")
    with pytest.raises(BadValue, match=r"executor operating-system.*add --device cpu"):
        isolation.tailored(isolation.DESIGN, (), "", ("nice",), "cuda")
    with pytest.raises(UnknownName, match="time-slicing"):
        isolation.tailored(isolation.DESIGN, (), "", ("turbo",), "cuda")
