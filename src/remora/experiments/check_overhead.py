"""``remora bench check-overhead``: what does it cost to watch a training, by what is watched?

TrainCheck (OSDI'25), overhead experiment: workloads × ways to watch. Theirs are a callback on every
Python call, every function of torch wrapped, and wrappers on those functions only that a deployed
set of 100 invariants names, one step in ten. Ours checks at every step, in the process: those 100,
all that 60 iterations of the very workload teach, and those of them that are about variables.
"""

from __future__ import annotations

from remora.lab.design import Chosen, Design, Effort
from remora.systems.invariant_sets import DEPLOYED, LEARNED, VARIABLES

_WORKLOADS = (
    *("mlp-train", "word-lm-train", "mnist-cnn-train"),
    *("bert-classification-train", "dcgan-train", "gat-train", "gcn-train", "resnet18-train"),
    *("siamese-train", "vit-train", "t5-base-train", "vae-train"),
)
"""A step of well under a millisecond, the earlier transformer, and the published ones."""
_SYSTEMS: tuple[Chosen, ...] = (
    Chosen("native"),
    Chosen("settrace"),
    Chosen("patch-everything"),
    Chosen("record"),
    Chosen("check", {"invariants": DEPLOYED}),
    Chosen("check", {"invariants": LEARNED}),
    Chosen("check", {"invariants": VARIABLES}),
)

DESIGN = Design(
    name="check-overhead",
    title="What does it cost to watch a training?",
    question=(
        "How much slower is a training step when everything in it is recorded, when invariants are "
        "checked on it, and which invariants does each step then fire?"
    ),
    workloads=dict.fromkeys(("quick", "standard", "paper"), _WORKLOADS),
    systems=dict.fromkeys(("quick", "standard", "paper"), _SYSTEMS),
    efforts={
        "quick": Effort(
            seconds=1.2, min_steps=3, blocks=6, budget_s=900, timeout_s=120, executor="forkserver"
        ),
        "standard": Effort(seconds=10, min_steps=8, max_steps=5000, blocks=10, timeout_s=1800),
        "paper": Effort(seconds=30, min_steps=8, max_steps=20000, blocks=10, timeout_s=7200),
    },
    margin=0.02,  # what checking may cost on a step of 20 ms and more
)
