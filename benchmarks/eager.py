"""The remote service's device: what an operator costs the program that asks for it.

The server is a process of its own. Every kind of operator is asked for in rows of many, none of
whose values is wanted in between, so what is timed is recording alone; then a whole model, whose
output is brought back. Beside it stands the driver's way: a round trip for each operator.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
import torch.nn.functional as F

import remora
from benchmarks.page import table

OPERATORS = 1000
ROUNDS = 9
WARM_UP = 2
Chained = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
KINDS: dict[str, Chained] = {
    "x + y": lambda x, y: x + y,
    "x * 0.5": lambda x, y: x * 0.5,
    "x.relu()": lambda x, y: x.relu(),
    "x.mul_(0.5)": lambda x, y: x.mul_(0.5),
    "x @ y": lambda x, y: x @ y,
    "linear(x, y)": lambda x, y: F.linear(x, y),
    "x.t(), a view": lambda x, y: x.t(),
}


def _serve(ready: Any) -> None:
    from remora.remote.server.server import Server

    torch.set_num_threads(1)
    with Server("tcp://127.0.0.1:0") as server:
        ready.send(server.address)
        ready.recv()


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        with contextlib.suppress(OSError):
            here.send("end")
        process.join(5)
        process.kill()


class Times:
    """Seconds of each round, on the clock and of this thread's CPU."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    @contextlib.contextmanager
    def round(self) -> Iterator[None]:
        """One more."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.thread_time() - cpu)

    def cells(self, scale: float, digits: int) -> tuple[str, str, str]:
        """Least CPU, least and median on the clock."""
        steady = self.wall[WARM_UP:]
        values = (min(self.cpu[WARM_UP:]), min(steady), statistics.median(steady))
        return tuple(f"{scale * value:.{digits}f}" for value in values)  # type: ignore[return-value]


def rows(device: Any) -> list[tuple[str, ...]]:
    """Microseconds an operator, for each kind."""
    y = torch.randn(8, 8).to(device)
    taken = {name: Times() for name in KINDS}
    for _ in range(ROUNDS):
        for name, function in KINDS.items():
            x = y.clone()
            with torch.no_grad(), taken[name].round():
                for _ in range(OPERATORS):
                    x = function(x, y)
            x.sum().item()
    return [(name, *times.cells(1e6 / OPERATORS, 1)) for name, times in taken.items()]


def trip(device: Any) -> tuple[str, ...]:
    """Microseconds of ``x + y`` until its value has been computed there, a row of many."""
    y, times = torch.randn(8, 8).to(device), Times()
    for _ in range(ROUNDS):
        x = y.clone()
        with torch.no_grad(), times.round():
            for _ in range(OPERATORS):
                x = x + y
            x[0, 0].item()
    return times.cells(1e6 / OPERATORS, 1)


def model(server: remora.RemoteServer, device: Any) -> tuple[list[tuple[str, ...]], str]:
    """GPT-2 of transformers: milliseconds of a forward here, recorded, and with its output."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=6, n_embd=64, n_head=4, vocab_size=512, n_positions=64,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    here: Any = GPT2LMHeadModel(config).eval()
    ids = torch.randint(512, (1, 16))
    with torch.no_grad():
        want = here(ids).logits
    local, recorded, whole, sent = Times(), Times(), Times(), []
    with torch.no_grad():
        for _ in range(ROUNDS):
            with local.round():
                here(ids)
    there: Any = device.put(here)
    with torch.no_grad():
        for _ in range(ROUNDS):
            before = server.counted.bytes_sent
            asked = ids.to(device)
            with whole.round():
                with recorded.round():
                    logits = there(asked).logits
                got = logits.cpu()
            sent.append(server.counted.bytes_sent - before)
            if not torch.equal(got, want):
                raise ValueError("the model gave something else on the device")
    lines: list[tuple[str, ...]] = [
        ("on the CPU here", *local.cells(1e3, 1)),
        ("recorded for the device", *recorded.cells(1e3, 1)),
        ("with its output, on the CPU there", *whole.cells(1e3, 1)),
    ]
    return lines, f"{sent[0]:,} bytes the first time, {sent[-1]:,} from the third on"


def section() -> str:
    """The section's text."""
    torch.set_num_threads(1)
    with served() as address, remora.connect(address) as server:
        with server.device() as device:
            kinds, batched = rows(device), trip(device)
            forwards, sent = model(server, device)
        with server.device(batched=False) as device:
            driven = trip(device)
    ways = [("together", *batched), ("each a round trip", *driven)]
    columns = ("least CPU", "least", "median")
    return (
        f"Operators on tensors of 8 × 8, {OPERATORS} in a row, in {ROUNDS} rounds in which all "
        f"take turns; the first {WARM_UP} are left out. CPU is that of the program's thread. Load "
        f"of the machine: {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores.\n\n"
        + table(("to record one operator, µs", *columns), kinds)
        + "\n\nWith the server's time, to the value of the last:\n\n"
        + table(("one `x + y`, µs", *columns), ways)
        + "\n\nGPT-2 of transformers, 6 layers of 64, 16 tokens; outputs equal. "
        + f"It sends {sent}.\n\n"
        + table(("one forward, ms", *columns), forwards)
    )


if __name__ == "__main__":
    print(section())
