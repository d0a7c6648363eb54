"""``remora bench quick``: what does it cost to watch and to checkpoint?

A small version of two published questions at once: the cost of watching (TrainCheck, OSDI'25,
overhead experiment) and of checkpointing (PCcheck, ASPLOS'25, figure 8).
"""

from __future__ import annotations

from remora.lab.design import Chosen, Design, Effort

_WORKLOADS = ("vgg16-train", "gpt2-train")
_SYSTEMS: tuple[Chosen, ...] = (
    Chosen("native"),
    Chosen("idle"),
    Chosen("settrace"),
    Chosen("dispatch-mode"),
    Chosen("torch-save", {"every": 5}),
    Chosen("dcp-async", {"every": 5}),
)

DESIGN = Design(
    name="quick",
    title="What does it cost to watch and to checkpoint?",
    question=(
        "How much slower is a training step when something watches it or saves its state, "
        "against the same step left alone?"
    ),
    workloads=dict.fromkeys(("quick", "standard", "paper"), _WORKLOADS),
    systems=dict.fromkeys(("quick", "standard", "paper"), _SYSTEMS),
    efforts={
        "quick": Effort(seconds=1.6, blocks=12, budget_s=300, timeout_s=90, executor="forkserver"),
        "standard": Effort(seconds=20, blocks=10, timeout_s=900),
        "paper": Effort(seconds=60, blocks=10, timeout_s=3600),
    },
    margin=0.05,  # a twentieth of a training run is about what its users notice and ask about
)
