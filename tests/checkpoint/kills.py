"""Kill a saving process at random moments, many times over, on one folder of real files.

Run as a program: ``python kills.py FOLDER COUNT SEED``. It forks, so that a child costs no import;
it therefore starts no thread that outlives a call. Prints how many kills there were, how many
checkpoints had been acknowledged, and how often a save was cut off midway.
"""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

import torch

from remora.checkpoint import inventory
from remora.checkpoint.checkpointer import Checkpointer
from remora.core.errors import CheckpointUnusable

STEP = struct.Struct("<q")
ELEMENTS = 60_000
TENSORS = 5


def model() -> torch.nn.ParameterList:
    return torch.nn.ParameterList(torch.zeros(ELEMENTS) for _ in range(TENSORS))


def save_without_end(folder: Path, acknowledged: int) -> None:
    """Every step's state is its number, in every element; tell of each acknowledged step."""
    parameters = model()
    saver = Checkpointer(folder, every=1, keep=2, chunk_bytes=2**17, when_slow="block")
    step = saver.restore(model=parameters) or 0
    told = 0
    while True:
        with torch.no_grad():
            for each in parameters:
                each.fill_(step + 1)
        saver.save(step + 1)
        saver.wait_copied()
        step += 1
        if (last := saver.counters.last_step or 0) > told:
            os.write(acknowledged, STEP.pack(told := last))


def newest(folder: Path) -> int:
    """The step that a restart would go on from; its every element is looked at."""
    try:
        storage = inventory.open_folder(folder)
        found = inventory.committed(storage)
    except CheckpointUnusable:
        return 0
    for each in found:
        try:
            state = inventory.load(storage, each)
        except CheckpointUnusable:
            continue
        values = torch.cat([tensor.reshape(-1) for tensor in state["model"].values()])
        if not bool((values == each.entry.step).all()):
            raise SystemExit(f"TORN: step {each.entry.step} holds {values.unique().tolist()}")
        return each.entry.step
    if found:
        raise SystemExit("LOST: there were checkpoints, and none is whole")
    return 0


def kill_one(folder: Path, after_s: float, *, saving: bool) -> int:
    """A child that is killed ``after_s`` seconds after its start, or once it is ``saving``.

    Returns:
        The last step that was acknowledged.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            save_without_end(folder, writing)
        finally:
            os._exit(1)
    os.close(writing)
    if saving:
        select.select([reading], [], [], 60)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if os.WIFEXITED(status):
        raise SystemExit("the saving process ended by itself")
    return STEP.unpack(told[-STEP.size :])[0] if told else 0


def kill_at_random(folder: Path, draw: random.Random) -> int:
    """One in five dies while it opens the folder and restores, the others while they save."""
    saving = draw.random() < 0.8
    return kill_one(folder, draw.uniform(0, 0.04), saving=saving)


def main() -> None:
    folder, count, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    acknowledged = cut_off = 0
    for _ in range(count):
        acknowledged = max(acknowledged, kill_at_random(folder, draw))
        step = newest(folder)
        if step < acknowledged:
            raise SystemExit(f"LOST: step {acknowledged} was acknowledged, {step} is the newest")
        cut_off += step > acknowledged
    print(f"{count} kills, {acknowledged} acknowledged, {cut_off} newer than that were whole")


if __name__ == "__main__":
    main()
