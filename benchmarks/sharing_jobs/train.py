"""A job that trains: real steps of a small network, as many as there is time for.

Prints ``ready``, reads a line of JSON: when to begin and to end, in nanoseconds of the monotonic
clock. Prints how many steps it has done between, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn

WIDTH, ROWS = 512, 128


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(8)))
    adam = torch.optim.Adam(net.parameters())
    x = torch.randn(ROWS, WIDTH)

    def step() -> None:
        adam.zero_grad()
        net(x).pow(2).mean().backward()
        adam.step()

    for _ in range(5):
        step()
    print("ready", flush=True)
    task = json.loads(sys.stdin.readline())
    steps = 0
    while time.monotonic_ns() < task["begin_ns"]:
        time.sleep(0.001)
    while time.monotonic_ns() < task["end_ns"]:
        step()
        steps += 1
    print(json.dumps({"steps": steps}))


if __name__ == "__main__":
    main()
