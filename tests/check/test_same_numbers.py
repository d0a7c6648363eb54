"""The numbers of a job are the same, bit for bit, whether it is learned from, checked or neither.

Of every workload that trains: what each step gave, what the model and its optimizers hold in the
end, and where the generators of random numbers are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.check.numbers import numbers_of

from remora.check.services import CheckService, LearnService
from remora.workloads import registry

STEPS = 4
FAST = ("gcn-train", "vae-train")
LARGE = ("device-like-l-train", "device-like-xl-train", "device-like-m-train")
"""The same code as ``device-like-train``, on states of half a gigabyte and more."""


def _cases() -> Iterator[object]:
    for name in registry.names():
        if registry.get(name).mode == "train" and name not in LARGE:
            yield pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(_cases()))
def test_learning_and_checking_change_no_number(name: str, tmp_path: Path) -> None:
    """GIVEN three sessions of one seed, one alone, one learned from and one checked by what was
    learned THEN all three are the same, and what was learned holds."""
    path, quiet = tmp_path / "healthy.inv", io.StringIO()
    alone = numbers_of(name, STEPS)
    learned_from = numbers_of(name, STEPS, LearnService(path, stderr=quiet))
    service = CheckService(path, stderr=quiet)
    checked = numbers_of(name, STEPS, service)

    assert learned_from == alone
    assert checked == alone
    assert service.findings.violations == []
    assert sum(rule.triggered for rule in service._checker.rules) > 10


@pytest.mark.slow
def test_a_draw_of_one_random_number_is_seen(tmp_path: Path) -> None:
    """Broken on purpose: what this file compares tells a service that draws from one that not."""

    class Draws(LearnService):
        def finish(self) -> None:
            torch.rand(1)

    service = Draws(tmp_path / "never.inv", stderr=io.StringIO())
    assert numbers_of("gcn-train", 1, service) != numbers_of("gcn-train", 1)
