"""Periodic: calls that come once every so many others, and the one that is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.check.stories import Told, checked, learned, said
from tests.check.training import Program, check, learn, words
from torch import nn

from remora.check.calls import OPTIMIZER_STEP
from remora.check.measures import SCHEDULER_STEP
from remora.check.relations.periodic import BACKWARD, LOADER

STEPS, BREAKS = 16, 5
RELATION = ["periodic"]
EVAL_CALL = "torch.nn.Module.eval"


def step(elements: int = 10) -> Told:
    return Told(OPTIMIZER_STEP, inputs={"self.elements": elements})


Steps = list[list[Told | str]]


def accumulated(*passes: int) -> Steps:
    """A step of the optimizer after each so many backward passes."""
    return [[*[BACKWARD] * count, step()] for count in passes]


def test_every_so_many_calls() -> None:
    invariants = learned(accumulated(4, 4, 4, 4, 4))
    assert said(invariants, "periodic") == {
        f"{OPTIMIZER_STEP} is called once every 4 calls of {BACKWARD} when self.elements is 10"
    }

    found = checked(invariants, accumulated(4, 4, 9, 3, 4))
    of_it = [(one.step, one.seen) for one in found if one.invariant.relation == "periodic"]
    assert of_it == [
        (2, f"5 calls of {BACKWARD} without it"), (3, "it comes after 3 already"),
    ]  # fmt: skip


def test_the_last_of_an_epoch_may_be_early() -> None:
    passes = (4, 4, 4, 4, 2)
    invariants = learned(accumulated(*passes * 2))

    assert said(invariants, "periodic") == {
        f"{OPTIMIZER_STEP} is called at least once every 4 calls of {BACKWARD} "
        "when self.elements is 10"
    }
    assert checked(invariants, accumulated(1, 4, 3)) == []
    assert [one.step for one in checked(invariants, accumulated(4, 4, 5))] == [2]


def test_no_period() -> None:
    for passes in [(1,) * 9, (4, 4, 4), (2, 4) * 5, (4, 4, 4, 4, 4, 5)]:
        assert said(learned(accumulated(*passes)), "periodic") == set()
    left_over: Steps = [*accumulated(2, 2, 2, 2, 2, 2), [BACKWARD] * 3]
    assert said(learned(left_over), "periodic") == set()


def test_another_program_has_another_period() -> None:
    invariants = learned(accumulated(4, 4, 4, 4, 4))
    other: Steps = [[*[BACKWARD] * 9, step(elements=11)]] * 5

    assert [one for one in checked(invariants, other) if one.invariant.relation == "periodic"] == []


def test_a_scheduler_by_steps_and_by_passes_over_the_data() -> None:
    by_steps: Any = [[step()], [step()], [step(), SCHEDULER_STEP]] * 6
    assert said(learned(by_steps), "periodic") == {
        f"{SCHEDULER_STEP} is called once every 3 calls of {OPTIMIZER_STEP} "
        "when self.elements is 10"
    }
    by_epochs: Any = [[LOADER, step()], [step()], [step(), SCHEDULER_STEP, LOADER]] * 6
    assert said(learned(by_epochs), "periodic") == {
        f"{SCHEDULER_STEP} is called once every 2 calls of {LOADER} when self.elements is 10"
    }
    by_evaluations: Any = [[step()], [step()], [EVAL_CALL, step(), SCHEDULER_STEP]] * 6
    assert said(learned(by_evaluations), "periodic") == set()


# ---------------------------------------------------------------- of real training


def training(accumulate: int = 2, forgets: str = "", batch: int = 8) -> Program:
    """What ``forgets`` names is not done from the step :data:`BREAKS` on."""

    def program() -> None:
        net = nn.Linear(4, 2)
        data = torch.utils.data.TensorDataset(torch.randn(32, 4))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
        passes = steps = 0
        while steps < STEPS:
            for (inputs,) in torch.utils.data.DataLoader(data, batch_size=batch):
                net(inputs).square().mean().backward()
                passes += 1
                forgotten = forgets == "step" and passes == accumulate * (BREAKS + 1)
                if passes % accumulate == 0 and not forgotten:
                    optimizer.step()
                    optimizer.zero_grad()
                    steps += 1
            if not (forgets == "scheduler" and steps >= BREAKS):
                scheduler.step()

    return program


@pytest.mark.slow
def test_accumulation_and_epochs_of_a_training() -> None:
    invariants = learn(training(), relations=RELATION)
    assert words(invariants) == {
        "Optimizer.step is called once every 2 calls of Tensor.backward when self.elements is 10",
        "LRScheduler.step is called once every call of DataLoader.__iter__ "
        "when self.elements is 10",
    }
    assert check(invariants, training(batch=4)) == []

    no_step = check(invariants, training(forgets="step"))
    assert [(one.step, one.seen) for one in no_step] == [
        (BREAKS, f"3 calls of {BACKWARD} without it")
    ]
    [no_schedule] = check(invariants, training(forgets="scheduler"))
    assert no_schedule.step == 6
    assert no_schedule.seen == f"2 calls of {LOADER} without it"
