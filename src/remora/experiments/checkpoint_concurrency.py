"""``remora bench checkpoint-concurrency``: does it help to have more checkpoints in flight?

PCcheck (ASPLOS 2025), figure 12: the slow-down of VGG-16 (batch 32, one writer thread) with 1, 2,
4, 6 and 8 checkpoints in flight, at intervals of up to 30 steps. Here the clock runs until the
last checkpoint is durable. More in flight hide latency and jitter, and never beat bandwidth: so
storage slower than this machine's is part of the question.
"""

from __future__ import annotations

from remora.lab.design import Chosen, Design, Effort
from remora.lab.results import Curve

_OURS = "remora-checkpoint"

DESIGN = Design(
    name="checkpoint-concurrency",
    title="Does it help to have more checkpoints in flight?",
    question=(
        "How much slower is a checkpointed training job than one left alone, for each number of "
        "checkpoints that may be on their way to storage at once?"
    ),
    workloads={
        "quick": ("device-like-train",),
        "standard": ("device-like-train", "vgg16-train"),
        "paper": ("vgg16-train", "device-like-train"),
    },
    systems={
        "quick": (
            Chosen(_OURS, {"every": 1}),
            Chosen(_OURS, {"every": 4, "disk_mb_s": 500}),
        ),
        "standard": (
            *(Chosen(_OURS, {"every": every}) for every in (1, 5, 10)),
            *(Chosen(_OURS, {"every": every, "disk_mb_s": 200}) for every in (5, 10, 25)),
            *(Chosen(_OURS, {"every": every, "disk_mb_s": 1000}) for every in (1, 5, 10)),
        ),
        "paper": tuple(Chosen(_OURS, {"every": every}) for every in (1, 5, 10, 15, 20, 25, 30)),
    },
    sweep={
        "quick": {"in_flight": (1, 2, 4, 6)},
        "standard": {"in_flight": (1, 2, 4, 6)},
        "paper": {"in_flight": (1, 2, 4, 6, 8)},
    },
    efforts={
        "quick": Effort(
            seconds=5, min_periods=5, blocks=5, budget_s=600, timeout_s=150, executor="forkserver"
        ),
        "standard": Effort(seconds=60, min_periods=8, blocks=5, timeout_s=1800),
        "paper": Effort(seconds=120, min_periods=10, blocks=5, timeout_s=7200),
    },
    margin=0.02,
    warm_up="first period",
    curves=(
        Curve(
            name="concurrency",
            title="Slow-down against the number in flight",
            over="in_flight",
            axis="checkpoints in flight",
            quantity="slowdown",
        ),
    ),
)
