"""A job that serves: one forward a request, requests in an open loop.

Reads a line of JSON: layers, moments of arrivals and when to begin, in nanoseconds of the monotonic
clock. Prints ``ready``, and at the end, as JSON, when each request was begun and done.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn

WIDTH, ROWS = 512, 64


def model(layers: int) -> nn.Module:
    """Of so many layers; the numbers do not matter, so they are always the same."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers))).eval()


def wait_until(moment_ns: int) -> None:
    """Asleep: a job that waits for a request holds no CPU."""
    while (left_ns := moment_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns / 1e9)


def main() -> None:
    torch.set_num_threads(1)
    net, x = model(int(sys.argv[1])), torch.zeros(ROWS, WIDTH)
    began, done = [], []
    with torch.no_grad():
        for _ in range(20):
            net(x)
        print("ready", flush=True)
        task = json.loads(sys.stdin.readline())
        for arrival_ns in task["arrivals_ns"]:
            wait_until(task["begin_ns"] + arrival_ns)
            began.append(time.monotonic_ns() - task["begin_ns"])
            net(x)
            done.append(time.monotonic_ns() - task["begin_ns"])
    print(json.dumps({"began_ns": began, "done_ns": done, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
