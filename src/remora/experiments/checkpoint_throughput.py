"""``remora bench checkpoint-throughput``: what is left of a job's speed, against the interval.

PCcheck (ASPLOS 2025), figure 8: throughput for checkpoints every 1 to 100 steps. The published
settings of figure 8b, used at ``paper`` scale: intervals 1, 10, 25, 50, 75 and 100; Transformer-XL
at batch 64 with four checkpoints in flight and two writers, BERT-large at batch 3 with four,
OPT-1.3B at batch 1 with two (which cannot differ by workload here: four are used throughout).
"""

from __future__ import annotations

from remora.lab.design import Chosen, Design, Effort
from remora.lab.results import Curve

_PEERS: tuple[Chosen, ...] = (
    Chosen("torch-save-nosync"),
    Chosen("torch-save"),
    Chosen("safetensors-save"),
    Chosen("dcp-save"),
    Chosen("dcp-async"),
    Chosen("dcp-async-process"),
    Chosen("torch-checkpointing"),
    Chosen("torchsnapshot"),
    Chosen("checkfreq-like"),
    Chosen("gpm-like"),
    Chosen("gemini-like"),
)
_FEW: tuple[Chosen, ...] = (
    Chosen("torch-save"),
    Chosen("dcp-async"),
    Chosen("torch-checkpointing"),
    Chosen("checkfreq-like"),
)

DESIGN = Design(
    name="checkpoint-throughput",
    title="What is left of a job’s speed while it is checkpointed?",
    question=(
        "How much work a second does a training job do that saves its whole state every so many "
        "steps, against the same job left alone, when the clock stops only once the last "
        "checkpoint is durable?"
    ),
    workloads={
        "quick": ("device-like-train", "gpt2-train"),
        "standard": (
            *("device-like-train", "vgg16-train", "bert-base-train", "transformer-xl-train"),
            *("opt-350m-train", "bloom-560m-train", "gpt2-train"),
        ),
        "paper": (
            *("device-like-train", "vgg16-train", "bert-large-train", "transformer-xl-train"),
            *("opt-1.3b-train", "bloom-560m-train", "gpt2-medium-train"),
        ),
    },
    systems={
        "quick": (*_FEW, Chosen("remora-checkpoint")),
        "standard": (*_PEERS, Chosen("remora-checkpoint")),
        "paper": (*_PEERS, Chosen("remora-checkpoint", {"in_flight": 4, "threads": 2})),
    },
    sweep={
        "quick": {"every": (1, 5, 10)},
        "standard": {"every": (1, 5, 10, 25, 50, 100)},
        "paper": {"every": (1, 10, 25, 50, 75, 100)},
    },
    efforts={
        "quick": Effort(
            seconds=5, min_periods=3, blocks=3, budget_s=900, timeout_s=150, executor="forkserver"
        ),
        "standard": Effort(seconds=60, min_periods=4, blocks=5, timeout_s=1800),
        "paper": Effort(seconds=120, min_periods=4, blocks=5, timeout_s=7200),
    },
    margin=0.02,  # what the service promises by default
    warm_up="first period",
    curves=(
        Curve(
            name="throughput",
            title="Throughput against the interval",
            over="every",
            axis="steps between checkpoints",
            quantity="throughput",
        ),
    ),
)
