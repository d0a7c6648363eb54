"""What is journaled of what a script reads; replay tells it the same; nothing stays patched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from remora.checkpoint.ride import reads
from remora.checkpoint.ride.journal import JOURNAL_VERSION, Begun, Entries, Journal, Log, read
from remora.checkpoint.ride.record import Recorder
from remora.checkpoint.ride.replay import Replay
from remora.checkpoint.ride.where import learn_torch
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import ReplayDiverged

READS: dict[str, tuple[Callable[[torch.Tensor], Any], list[str]]] = {
    "item": (lambda t: t.sum().item(), ["item"]),
    "float": (lambda t: float(t.sum()), ["__float__"]),
    "int": (lambda t: int(t.sum()), ["__int__"]),
    "bool": (lambda t: bool((t > 1).any()), ["__bool__"]),
    "if": (lambda t: 1 if t.sum() > 1 else 2, ["__bool__"]),
    "index": (lambda t: list(range(9))[t.argmax()], ["__index__"]),
    "sqrt": (lambda t: math.sqrt(t.sum()), ["__float__"]),
    "format": (lambda t: f"{t.sum():.3f}", ["item"]),
    "percent": (lambda t: "%.3f" % t.sum(), ["__float__"]),  # noqa: UP031  another way to read
    "str": (str, ["__repr__"]),
    "repr in a list": (lambda t: str([t]), ["__repr__"]),
    "tolist": (lambda t: t.tolist(), ["tolist"]),
    "numpy": (lambda t: t.numpy().tobytes(), ["numpy"]),
    "asarray": (lambda t: np.asarray(t).tobytes(), ["numpy"]),
    "in": (lambda t: 2.0 in t, ["item"]),
    "equal": (lambda t: torch.equal(t, t + 1), ["torch.equal"]),
    "allclose": (lambda t: t.allclose(t), ["allclose"]),
    "complex": (lambda t: (t.sum() * 1j).item(), ["item"]),
    "max": (lambda t: max(t[0], t[1]).item(), ["__bool__", "item"]),
}


def record(work: Callable[[], Any]) -> tuple[Any, Log]:
    learn_torch()
    storage = MemoryStorage()
    recorder = Recorder(Journal(storage, "journal", Begun(JOURNAL_VERSION, "", [], 0)))
    recorder.start()
    try:
        result = work()
    finally:
        recorder.stop()
    recorder.stepped()
    log = read(storage, "journal")
    assert log is not None
    return result, log


def kinds(log: Log) -> list[str]:
    batches = [placed.frame for placed in log.frames]
    return [each.kind for batch in batches if isinstance(batch, Entries) for each in batch.entries]


def replay(log: Log, work: Callable[[], Any]) -> Any:
    replaying = Replay(log, None, lambda frame: None, lambda frame: None)
    replaying.start()
    try:
        return work()
    finally:
        replaying.stop()


@pytest.mark.parametrize("how", list(READS))
def test_replay_tells_what_the_first_run_was_told(how: str) -> None:
    ask, expected = READS[how]
    told, log = record(lambda: ask(torch.tensor([1.0, 2.0, 3.5])))
    again = replay(log, lambda: ask(torch.zeros(3)))

    assert again == told == ask(torch.tensor([1.0, 2.0, 3.5]))
    assert kinds(log) == expected


def test_what_happens_within_a_forward_a_step_or_a_loader_is_not_the_scripts() -> None:
    class Asking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.sum().item() > 0
            return super().forward(x)

    net = Asking(2, 1)
    adam = torch.optim.Adam(net.parameters())
    data = torch.utils.data.TensorDataset(torch.ones(1, 2))
    loader = torch.utils.data.DataLoader(data, shuffle=True)

    def work() -> None:
        for (batch,) in loader:
            net(batch).sum().backward()
            adam.step()

    _, log = record(work)
    assert kinds(log) == ["random"]


def test_reading_otherwise_is_told_at_once() -> None:
    _, log = record(lambda: torch.ones(1).item())

    with pytest.raises(ReplayDiverged, match="a read by tolist, where there was one by item"):
        replay(log, lambda: torch.ones(1).tolist())
    with pytest.raises(ReplayDiverged, match="nothing more was read then"):
        replay(log, lambda: [torch.ones(1).item() for _ in range(2)])


@pytest.mark.slow
def test_of_a_large_array_replay_must_arrive_at_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MAX_BYTES", 64)
    large = torch.arange(100.0)
    _, log = record(lambda: large.numpy())

    assert replay(log, lambda: large.numpy()).sum() == 4950
    with pytest.raises(ReplayDiverged, match="reads 100 numbers by numpy"):
        replay(log, lambda: torch.zeros(100).numpy())


def test_every_patched_name_is_as_it_was() -> None:
    def names() -> dict[str, Any]:
        owners: list[Any] = [torch.Tensor, torch.utils.data.DataLoader, torch.amp.GradScaler]
        found = {f"{each}.{name}": value for each in owners for name, value in vars(each).items()}
        found["__call__"] = vars(nn.Module)["__call__"]
        found["save"], found["grad"] = torch.save, torch.autograd.grad
        return found

    before = names()
    _, log = record(lambda: torch.ones(1).item())
    replay(log, lambda: torch.ones(1).item())

    assert names() == before
