"""Two jobs as processes of their own: one that serves when a test says so, one that trains."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.share.system.jobs import start, wait_until

PYTHON_HOOK = (
    "import remora.share.interception.registry as hooks\n"
    "hooks.best = lambda: hooks.create('python')\n"
)
"""Nothing is compiled for a test."""
TRAIN = """
import mmap, struct, sys, torch
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with open("steps", "wb") as file:
    file.write(bytes(8))
with open("steps", "r+b") as file:
    steps = mmap.mmap(file.fileno(), 8)
x, count = torch.randn(32, 64), 0
print("ready", flush=True)
while True:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    count += 1
    steps[:] = struct.pack("q", count)
"""
"""A job that trains, and says in a file how many steps it has made."""

SERVE = """
import sys, time, torch
from pathlib import Path
torch.set_num_threads(1)

class Held(torch.nn.Module):
    def forward(self, x):
        Path("serving").touch()
        while Path("hold").exists():
            time.sleep(0.002)
        return x + 1

model = Held()
model(torch.zeros(1))
print("ready", flush=True)
for line in sys.stdin:
    Path("hold").touch()
    Path("serving").unlink(missing_ok=True)
    model(torch.zeros(1))
    print("served", flush=True)
"""
"""A job that serves a request for each line it reads, and is not done before ``hold`` is gone."""

GATE = "gate:policy=priority+min-wait,min-wait=1ms"


class Pair:
    """A job that serves and a job that trains behind the gate, in ``folder``."""

    def __init__(self, folder: Path, mechanism: str = GATE, before: str = PYTHON_HOOK) -> None:
        self.folder, self.mechanism, self.before = folder, mechanism, before
        self.jobs: list[subprocess.Popen[str]] = []
        self.serve()
        self.train()

    def train(self) -> None:
        (self.folder / "steps").unlink(missing_ok=True)
        options = ("--priority", "best-effort", "--share-mechanism", self.mechanism)
        self.best_effort = start(self.folder, TRAIN, options=options, before=self.before)
        self.jobs.append(self.best_effort)

    def serve(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)
        self.high = start(self.folder, SERVE, options=("--priority", "high"), takes_lines=True)
        self.jobs.append(self.high)

    @property
    def steps(self) -> int:
        found: int = struct.unpack("q", (self.folder / "steps").read_bytes())[0]
        return found

    def goes_on(self, within_s: float = 20.0) -> float:
        """Seconds until it has made another two steps: one may have been all but done."""
        before = self.steps
        return wait_until(lambda: self.steps > before + 1, within_s)

    def begin_request(self) -> None:
        assert self.high.stdin is not None
        (self.folder / "serving").unlink(missing_ok=True)
        (self.folder / "hold").touch()
        self.high.stdin.write("go\n")
        self.high.stdin.flush()
        wait_until((self.folder / "serving").exists)

    def end_request(self) -> None:
        assert self.high.stdout is not None
        (self.folder / "hold").unlink(missing_ok=True)
        assert self.high.stdout.readline() == "served\n"

    def end(self) -> None:
        for job in self.jobs:
            job.kill()
            job.communicate()
