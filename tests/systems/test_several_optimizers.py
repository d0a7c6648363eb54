"""A session with several optimizers is checkpointed whole, and is waited for by each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tests.systems.builders import TinySession
from torch import nn

from remora.systems.checkpointing import UpdateGuard
from remora.systems.remora_checkpoint import RemoraCheckpoint
from remora.workloads.contract import Outcome


class TwoOptimizers(TinySession):
    """Each layer has its own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        assert isinstance(self.model, nn.Sequential)
        first, _, last = self.model
        self.optimizer = torch.optim.Adam(last.parameters())
        self._of_first = torch.optim.Adam(first.parameters())

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"first": self._of_first, "last": self.optimizer}

    def step(self) -> Outcome:
        outcome = super().step()
        self._of_first.step()
        self._of_first.zero_grad()
        return outcome


def test_a_checkpoint_goes_on_where_it_was(tmp_path: Path) -> None:
    session, system = TwoOptimizers(), RemoraCheckpoint(every=1)
    ride = system.ride(session, tmp_path)
    for _ in range(3):
        ride.step()
    ride.drain()
    ride.close()
    expected = [session.step().digest for _ in range(2)]

    fresh = TwoOptimizers(seed=9)
    again = system.ride(fresh, tmp_path)
    again.saver.resume()  # type: ignore[attr-defined]
    again.close()
    fresh.inputs, fresh.targets = session.inputs, session.targets

    assert [fresh.step().digest for _ in range(2)] == expected


def test_none_of_them_steps_before_the_copy_is_made() -> None:
    waits: list[int] = []
    session = TwoOptimizers()
    guard = UpdateGuard(session, [0], lambda: waits.append(1))
    session.step()
    assert len(waits) == 2
    guard.close()
    session.step()
    assert len(waits) == 2
