"""Two ranks: rank 0 copies the parts of both, and both go on from the copy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remora.checkpoint import inventory

SCRIPT = """
import json, sys, time
import torch
from torch import distributed, nn
from remora.checkpoint.checkpointer import Checkpointer

folder, url, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3]) or None
distributed.init_process_group("gloo")
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(96, 257), nn.Linear(257, 96)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
with Checkpointer(folder, every=2, when_slow="block", second=url, second_keep=9) as saver:
    start = saver.restore(wanted, model=model, optimizer=optimizer) or 0
    for step in range(start, 6):
        batch = torch.randn(16, 96, generator=torch.Generator().manual_seed(step))
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if saver.step(step):
            saver.wait()
            for counters in saver.elsewhere.counters.values():  # rank 0's alone
                while counters.last_step != step + 1:
                    time.sleep(0.01)
if distributed.get_rank() == 0:
    print(json.dumps({"start": start, "losses": losses}))
distributed.barrier()
distributed.destroy_process_group()
"""


def run(folder: Path, url: str, step: int) -> dict[str, object]:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder / "saved"), url, str(step)],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    found: dict[str, object] = json.loads(outputs[0].splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_parts_of_both_ranks_are_copied_and_gone_on_from(tmp_path: Path) -> None:
    url = (tmp_path / "copies").as_uri()
    whole = run(tmp_path, url, 0)["losses"]
    copies = inventory.open_place(url)
    found = inventory.find(copies, 4)
    assert found.entry.parts == 2
    assert inventory.verify(copies, found).damage is None
    shutil.rmtree(tmp_path / "saved")
    again = run(tmp_path, url, 4)
    assert isinstance(whole, list)
    assert again == {"start": 4, "losses": whole[4:]}
    assert [each.entry.step for each in inventory.committed(inventory.open_place(url))][:2] == [
        6,
        6,
    ]
