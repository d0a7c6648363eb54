"""Jobs of several ranks: saved in parts, committed as one, resumed by as many ranks or by another
number of them, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remora.checkpoint import inventory

SCRIPT = """
import json, os, signal, sys
import torch
from torch import distributed, nn
from remora.checkpoint.checkpointer import Checkpointer

kind, folder, steps, dies_at = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(96, 257), nn.ReLU(), nn.BatchNorm1d(257), nn.Linear(257, 96))
if kind == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
else:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    model = fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
saver = Checkpointer(folder, every=2)
start = saver.restore(model=model, optimizer=optimizer) or 0
losses = []
for step in range(start, steps):
    batch = torch.randn(16, 96, generator=torch.Generator().manual_seed(step))
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    if step == dies_at:
        saver.wait()
        distributed.barrier()
        os.kill(os.getpid(), signal.SIGKILL)
    saver.step(step)
saver.close()
if rank == 0:
    print(json.dumps({"start": start, "losses": losses, "committed": saver.counters.committed}))
distributed.destroy_process_group()
"""


def run(folder: Path, kind: str, ranks: int, steps: int, dies_at: int = -1) -> tuple[int, str]:
    """The worst exit code, and what rank 0 printed."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    arguments = [str(script), kind, str(folder / "saved"), str(steps), str(dies_at)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    return min(process.returncode for process in processes), outputs[0]


def said(output: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return found


KINDS = ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_ranks_go_on_as_if_nothing_had_been(kind: str, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    _, output = run(whole, kind, ranks=2, steps=9)
    expected = said(output)["losses"]
    assert isinstance(expected, list)

    code, _ = run(parted, kind, ranks=2, steps=9, dies_at=5)
    assert code == -signal.SIGKILL
    code, output = run(parted, kind, ranks=2, steps=9)

    assert code == 0
    assert said(output) == {"start": 4, "losses": expected[4:], "committed": 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp", "ddp"])
def test_another_number_of_ranks_can_go_on(kind: str, tmp_path: Path) -> None:
    _, output = run(tmp_path, kind, ranks=2, steps=4)
    assert said(output)["committed"] == 2
    storage = inventory.open_folder(tmp_path / "saved")
    newest = inventory.find(storage, None)
    assert (newest.entry.step, newest.entry.parts) == (4, 2)
    assert inventory.verify(storage, newest).damage is None
    saved = inventory.load(storage, newest)

    code, output = run(tmp_path, kind, ranks=1, steps=6)

    assert code == 0
    assert said(output)["start"] == 4
    again = inventory.load(storage, inventory.find(storage, 4))
    assert saved["model"].keys() == again["model"].keys()
    assert inventory.find(storage, None).entry.parts == 1


@pytest.mark.slow
def test_a_part_that_is_damaged_spoils_the_checkpoint_for_all(tmp_path: Path) -> None:
    run(tmp_path, "ddp", ranks=2, steps=4)
    storage = inventory.open_folder(tmp_path / "saved")
    newest = inventory.find(storage, None)
    path = tmp_path / "saved" / newest.part_name(1)
    data = bytearray(path.read_bytes())
    data[8200] ^= 1
    path.write_bytes(data)

    code, output = run(tmp_path, "ddp", ranks=2, steps=4)

    assert code == 0
    assert said(output)["start"] == 2
