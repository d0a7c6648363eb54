"""``make bench``: measure what Remora itself costs and write ``docs/performance.md``.

``python -m benchmarks tap lab`` runs only those named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks import (
    checking,
    checkpoint,
    compiled,
    copies,
    cpu_steps,
    device,
    digests,
    eager,
    hook,
    lab,
    remote,
    share,
    sharing,
    slicing,
    tap,
    wire,
)
from benchmarks.page import PAGE, machine, replace_section

SECTIONS: dict[str, tuple[str, Callable[[], str]]] = {
    "tap": ("The tap: pay for what you watch", tap.section),
    "lab": ("The lab: processes and files", lab.section),
    "checkpoint": ("The checkpoint service: disk, stall and memory", checkpoint.section),
    "cpu-steps": ("The checkpoint service beside steps that use the CPU", cpu_steps.section),
    "checking": ("The check service: what a step pays", checking.section),
    "digests": ("The check service: digests of variables", digests.section),
    "copies": ("Checkpoints elsewhere", copies.section),
    "wire": ("The remote service's wire: echoes beside its peers", wire.section),
    "remote": ("The remote service: callers, sessions together, waiting", remote.section),
    "compiled": ("The remote service: graphs interpreted and compiled", compiled.section),
    "share": ("The share service: decisions, and the simulator", share.section),
    "slicing": ("The share service: operators in pieces", slicing.section),
    "hook": ("The share service: standing before operators", hook.section),
    "sharing": ("The share service on one core: serving beside training", sharing.section),
    "device": ("The share service: a server as a device", device.section),
    "eager": ("The remote service's device: operator by operator", eager.section),
}


def main(names: list[str]) -> int:
    """Run the benchmarks called ``names``, or all."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; choose from: {', '.join(SECTIONS)}")
        return 2
    for name in names or SECTIONS:
        title, section = SECTIONS[name]
        print(f"measuring {name} …", flush=True)
        body = section()
        print(body)
        replace_section(name, title, f"{machine()}\n\n{body}")
    print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
