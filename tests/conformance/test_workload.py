"""What every registered workload promises, whoever wrote it."""

from __future__ import annotations

import gc
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from remora.core.errors import BadValue
from remora.workloads import registry
from remora.workloads.contract import SCALES, Outcome, Session, Workload

CPU = torch.device("cpu")
STEPS = 2


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    gc.collect()


@pytest.fixture(params=registry.names())
def workload(request: pytest.FixtureRequest) -> Workload:
    return registry.get(request.param)


def _step(session: Session) -> list[Outcome]:
    return [session.step() for _ in range(STEPS)]


def test_is_described(workload: Workload) -> None:
    assert workload.name == f"{workload.model}-{workload.mode}"
    assert registry.get(workload.name) is workload
    assert len(workload.source) > 20
    for scale in SCALES:
        sizes = workload.sizes(scale)
        assert sizes
        assert all(isinstance(value, int | str) for value in sizes.values())
        assert ("optimizer" in sizes) == (workload.mode == "train")


def test_steps_are_real_and_equal_for_equal_seeds(workload: Workload) -> None:
    """GIVEN two sessions of one seed, stepped in turn, and one of another seed
    THEN the first two agree bit for bit, the third differs, and what is built is as predicted."""
    first, second = (workload.build("quick", CPU, seed=3) for _ in range(2))
    other = workload.build("quick", CPU, seed=4)
    before = [parameter.detach().clone() for parameter in first.model.parameters()]

    outcomes = [(first.step(), second.step()) for _ in range(STEPS)]

    assert all(a.digest == b.digest for a, b in outcomes)
    assert all(math.isfinite(a.value) for a, _ in outcomes)
    assert _step(other)[0].digest != outcomes[0][0].digest
    _check_training(workload, first, before)
    _check_footprint(workload, first)
    for session in (first, second, other):
        session.close()
        session.close()


def _check_training(workload: Workload, session: Session, before: list[torch.Tensor]) -> None:
    changed = [
        not torch.equal(old, new)
        for old, new in zip(before, session.model.parameters(), strict=True)
    ]
    if workload.mode != "train":
        assert session.optimizer is None
        assert not any(changed)
        return
    assert session.optimizer is not None
    assert sum(changed) > 0.9 * len(changed)
    assert all(parameter.grad is None for parameter in session.model.parameters())


def _check_footprint(workload: Workload, session: Session) -> None:
    footprint = workload.footprint("quick")
    parameters = list(session.model.parameters())
    assert footprint.parameters == sum(parameter.numel() for parameter in parameters)
    held = sum(tensor.nbytes for tensor in (*parameters, *session.model.buffers()))
    assert footprint.weights == held
    assert (footprint.gradients > 0) == (footprint.optimizer > 0 or workload.mode == "train")
    assert footprint.activations > 0
    assert footprint.total >= held
    assert session.work.count > 0
    assert session.work.unit


def test_a_restored_session_goes_on_where_the_saved_one_was(workload: Workload) -> None:
    """GIVEN a session's state, saved and loaded into a fresh session of the seed
    THEN both take the same next steps bit for bit, so the state holds all that a checkpoint must.
    """
    session = workload.build("quick", CPU, seed=3)
    _step(session)
    state = _saved_and_loaded(session.state())
    expected = [outcome.digest for outcome in _step(session)]
    fresh = workload.build("quick", CPU, seed=3)
    fresh.load_state(state)
    assert [outcome.digest for outcome in _step(fresh)] == expected


def _saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """As a file would give it back; nothing but tensors and plain values gets through."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_data_of_the_wrong_kind_are_refused(workload: Workload, tmp_path: Path) -> None:
    """No workload reads a folder holding nothing but a file of no kind."""
    (tmp_path / "data.bin").write_bytes(b"\xff\xfe\x00")
    for data in (tmp_path, tmp_path / "data.bin", tmp_path / "absent"):
        with pytest.raises(BadValue) as refusal:
            workload.build("quick", CPU, data=data)
        assert "\n" not in str(refusal.value)
