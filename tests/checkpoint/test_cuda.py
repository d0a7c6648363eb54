"""Checkpoints of a state on a CUDA device; run by ``make gpu-check``."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from remora.checkpoint.checkpointer import Checkpointer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

Job = tuple[torch.nn.Module, torch.optim.Optimizer]


def job(width: int = 512) -> Job:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, width), torch.nn.Dropout(0.1), torch.nn.Linear(width, 64)
    ).cuda()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def train(made: Job, step: int) -> float:
    model, optimizer = made
    batch = torch.randn(32, 64, generator=torch.Generator().manual_seed(step)).cuda()
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.item())


@pytest.mark.parametrize("memory_bytes", [None, 2 * 8192])
def test_a_resumed_job_loses_nothing_of_its_way(tmp_path: Path, memory_bytes: int | None) -> None:
    whole = job()
    expected = [train(whole, step) for step in range(8)]
    first = job()
    with Checkpointer(
        tmp_path, every=1, chunk_bytes=8192, memory_bytes=memory_bytes, when_slow="block"
    ) as saver:
        saver.track(model=first[0], optimizer=first[1])
        for step in range(5):
            assert train(first, step) == expected[step]
            saver.step(step)

    second = job()
    with Checkpointer(tmp_path, every=1) as saver:
        start = saver.restore(model=second[0], optimizer=second[1])
        assert start == 5
        assert [train(second, step) for step in range(start, 8)] == expected[start:]


def test_the_training_thread_does_not_wait_for_the_copy(tmp_path: Path) -> None:
    large = job(width=200_000)  # about 300 MB with its moments
    train(large, 0)
    with Checkpointer(tmp_path, every=1, keep=2) as saver:
        saver.track(model=large[0], optimizer=large[1])
        saver.save(1)
        saver.wait()
        torch.cuda.synchronize()
        began = time.perf_counter()
        saver.save(2)
        saver.wait_copied()
        issued_ms = (time.perf_counter() - began) * 1e3
        saver.wait()

    assert issued_ms < 100
    assert saver.counters.committed == 2


def test_a_checkpoint_of_a_device_opens_on_the_host(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    made = job()
    train(made, 0)
    with Checkpointer(tmp_path, every=1) as saver:
        saver.track(model=made[0], optimizer=made[1])
        saver.save(1)
    stored = load_file(tmp_path / "slot-00.safetensors")

    for name, tensor in made[0].state_dict().items():
        assert torch.equal(stored[f"model.{name}"], tensor.cpu())
