"""The observe service: what it counts, finds, says and writes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from remora.core.clock import ManualClock
from remora.core.errors import BadValue, UnknownName
from remora.tap.job import Job
from remora.tap.observe import Calls, Model, Observation, Observe, Part, summary

Stepper = Callable[[torch.optim.Optimizer], None]

EVERYTHING = Observation(
    steps=1200, step_of="optimizer", step_ms_mean=12.5, step_ms_median=11.0,
    models=[
        Model(name="net", kind="ResNet", parameters=11_000_000, trained_by=["adam"],
              wrappers=["OptimizedModule"]),
        Model(name="average", kind="ResNet", parameters=11_000_000, trained_by=[], wrappers=[]),
    ],
    optimizers=[Part(name="adam", kind="Adam", acts_on=["net"])],
    schedulers=[Part(name="decay", kind="StepLR", acts_on=["adam"])],
    calls={
        "torch.add": Calls(count=3600, failed=2, total_ms=72.0),
        "torch.mul": Calls(count=0, failed=0, total_ms=0.0),
        "late.f": Calls(count=0, failed=0, total_ms=0.0, found=False),
    },
)  # fmt: skip

GOLDEN = """\
remora: observed
  steps      1,200 of the optimizer, mean 12.5 ms, median 11 ms
  model      net: ResNet in OptimizedModule, 11,000,000 parameters, trained by adam
             average: ResNet, 11,000,000 parameters, not trained
  optimizer  adam: Adam, trains net
  scheduler  decay: StepLR, drives adam
  calls      torch.add: 3,600, 72 ms in all, 2 raised
             torch.mul: never called
             late.f: never found"""

NOTHING = Observation(
    steps=0, step_of="optimizer", step_ms_mean=None, step_ms_median=None,
    models=[], optimizers=[], schedulers=[], calls={},
)  # fmt: skip


def test_the_summary_reads_so() -> None:
    assert summary(EVERYTHING) == GOLDEN
    assert summary(NOTHING) == "remora: observed\n  steps      none seen"
    assert summary(NOTHING, rank="1") == "remora: observed (rank 1)\n  steps      none seen"


@pytest.mark.slow
def test_steps_are_timed_from_end_to_end(job: Job, model: nn.Module, step: Stepper) -> None:
    clock = ManualClock()
    observe = Observe(stream=io.StringIO(), clock_ns=clock.wall_ns)
    job.attach(observe)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for took_ms in (100, 2, 4, 12):
        clock.advance(took_ms * 10**6)
        step(optimizer)

    seen = observe.observation()
    assert (seen.steps, seen.step_of) == (4, "optimizer")
    assert seen.step_ms_mean == pytest.approx(6.0)
    assert seen.step_ms_median == pytest.approx(4.0)


def test_an_inference_program_is_counted_in_forwards(job: Job, model: nn.Module) -> None:
    observe = Observe(stream=io.StringIO())
    job.attach(observe)
    for _ in range(3):
        model(torch.ones(1, 4))

    seen = observe.observation()
    assert (seen.steps, seen.step_of) == (3, "forward")


def test_calls_are_counted_and_timed(job: Job) -> None:
    clock = ManualClock()
    observe = Observe(["torch.add", "torch.mul"], stream=io.StringIO(), clock_ns=clock.wall_ns)
    job.attach(observe)
    torch.add(torch.ones(1), 1)
    with pytest.raises(TypeError):
        torch.add("no tensor", 1)  # type: ignore[call-overload]

    calls = observe.observation().calls
    assert calls["torch.add"] == Calls(count=2, failed=1, total_ms=0.0)
    assert calls["torch.mul"].count == 0


@pytest.mark.slow
def test_the_file_holds_what_the_summary_says(
    job: Job, model: nn.Module, step: Stepper, tmp_path: Path
) -> None:
    said = io.StringIO()
    file = tmp_path / "observed.json"
    job.attach(Observe(json_file=file, stream=said))
    trainer = torch.optim.Adam(model.parameters())
    step(trainer)
    job.finish()

    stored = msgspec.json.decode(file.read_bytes(), type=Observation)
    assert said.getvalue() == summary(stored) + "\n"
    assert stored.steps == 1
    assert any(part.name == "trainer" for part in stored.optimizers)


def test_a_folder_that_is_not_there_is_said_before_the_program_runs(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="no folder"):
        Observe(json_file=tmp_path / "absent" / "observed.json")


def test_an_unknown_name_is_refused_while_attaching(job: Job) -> None:
    with pytest.raises(UnknownName, match=r"torch\.add"):
        job.attach(Observe(["torch.ad"]))
    assert job.services == ()


@pytest.mark.slow
def test_it_keeps_no_model_alive(job: Job, make_service: Any) -> None:
    import gc
    import weakref

    job.attach(Observe(stream=io.StringIO()))
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    alive = weakref.ref(model), weakref.ref(optimizer)
    del model, optimizer
    gc.collect()

    assert [reference() for reference in alive] == [None, None]


def test_the_file_is_where_it_was_asked_for_though_the_program_moves(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    job.attach(Observe(json_file=Path("seen.json"), stream=io.StringIO()))
    monkeypatch.chdir(tmp_path / "elsewhere")
    job.finish()

    assert (tmp_path / "seen.json").is_file()


def test_forwards_are_let_go_at_the_first_step(job: Job, model: nn.Module, step: Stepper) -> None:
    job.attach(Observe(stream=io.StringIO()))
    model(torch.ones(2, 4))
    assert model._forward_hooks
    step(torch.optim.SGD(model.parameters(), lr=0.1))

    assert not model._forward_hooks


def test_a_closed_stream_spares_a_strict_job(strict_job: Job) -> None:
    stream = io.StringIO()
    strict_job.attach(Observe(stream=stream))
    stream.close()
    strict_job.finish()

    assert strict_job.services == ()
