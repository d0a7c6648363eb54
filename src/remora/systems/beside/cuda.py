"""A GPU that two processes use, as executor: the gate in front of it, and what there is without.

Time slicing is what a GPU does with processes that know nothing of each other, in its default
compute mode; MPS lets their work run at the same time. Both are set up outside of us, and neither
is ever changed here: a row says which of them it was measured under.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from remora.core.errors import Unavailable, UnknownName
from remora.share.system.mechanisms.registry import parse_choice
from remora.systems.beside.executor import Setting, Stage, Training
from remora.systems.beside.operating_system import PLAIN, Programs
from remora.systems.beside.order import Order

TIME_SLICING, MPS, GATE = "time-slicing", "mps", "gate"
_PIPES, _DEFAULT_PIPES = "CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"


def mps_runs(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether programs that start here become clients of MPS: its control pipe is where they look
    (CUDA Multi-Process Service, "Environment Variables")."""
    return (Path(environment.get(_PIPES) or _DEFAULT_PIPES) / "control").exists()


class Cuda(Programs):
    """Both jobs are programs on one GPU."""

    name = "cuda"
    title = "two programs on one GPU"
    devices = ("cuda",)
    alone = TIME_SLICING

    def policies(self) -> Sequence[str]:
        return (TIME_SLICING, MPS, GATE)

    def check(self, policy: str) -> None:
        if policy.partition(":")[0] == GATE:
            parse_choice(policy)
        elif policy not in self.policies():
            raise UnknownName(f"policy of executor {self.name}", policy, self.policies())

    def stage(self, setting: Setting) -> Stage:
        _check_mps(setting.policy)
        return super().stage(setting)

    def train(self, order: Order) -> Training:
        _check_mps(order.policy)
        return super().train(order)

    def _mechanism(self, policy: str) -> str:
        return policy if policy.partition(":")[0] == GATE else PLAIN


def _check_mps(policy: str) -> None:
    """Raises:
    Unavailable: the GPU is shared in another way than the policy says.
    """
    if policy == MPS and not mps_runs():
        raise Unavailable(
            "mps: no MPS daemon is to be found; start one (nvidia-cuda-mps-control -d), or choose "
            "--policy time-slicing"
        )
    if policy != MPS and mps_runs():
        raise Unavailable(
            f"{policy}: an MPS daemon runs here, so the GPU is not shared by time slicing; end it "
            "(echo quit | nvidia-cuda-mps-control), or choose --policy mps"
        )
