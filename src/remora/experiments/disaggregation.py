"""``remora bench disaggregation``: what does it cost to run a model elsewhere, and what helps?

Genie/Djinn, the benchmark of semantic disaggregation: workloads × ways of calling a model in
another process. Theirs are a model here, weights and inputs sent with every call, a graph that
stays, weights that stay, and all that a server can know. Each of our rows is the one before it with
one thing more that stays, so what that thing is worth is the difference of two rows. All go over
one wire.
"""

from __future__ import annotations

from collections.abc import Mapping

from remora.lab.design import Chosen, Design, Effort

NAIVE: Mapping[str, str | bool] = {
    "graph": False,
    "weights": False,
    "state": "recomputed",
    "selected": False,
    "streamed": False,
}
"""Graph, weights and the whole input cross with every call; all outputs come back."""
CAPTURE_ONLY = {**NAIVE, "graph": True}
WEIGHTS_STAY = {**CAPTURE_ONLY, "weights": True}
STATE_RETURNS = {**WEIGHTS_STAY, "state": "returned"}
STATE_STAYS = {**WEIGHTS_STAY, "state": "kept"}
SELECTED = {**STATE_STAYS, "selected": True}

_WORKLOADS = (
    *("gpt2-decode", "gpt2-prefill"),
    *("resnet50-forward", "clip-vit-b32-forward", "micro-matmul-forward"),
)
_SYSTEMS: tuple[Chosen, ...] = (
    ("native", {}),
    ("remote", NAIVE),
    ("remote", CAPTURE_ONLY),
    ("remote", WEIGHTS_STAY),
    ("remote", STATE_RETURNS),
    ("remote", STATE_STAYS),
    ("remote", SELECTED),
    ("remote", {}),
    ("captured", {}),
)

DESIGN = Design(
    name="disaggregation",
    title="What does it cost to run a model elsewhere?",
    question=(
        "How much longer does a step take, and how many bytes cross, when a model runs in another "
        "process, and what is it worth that graph, weights, state and outputs stay there?"
    ),
    workloads=dict.fromkeys(("quick", "standard", "paper"), _WORKLOADS),
    systems=dict.fromkeys(("quick", "standard", "paper"), _SYSTEMS),
    efforts={
        "quick": Effort(seconds=1.0, min_steps=3, blocks=4, budget_s=900, timeout_s=180),
        "standard": Effort(seconds=10, min_steps=5, max_steps=200, blocks=8, timeout_s=1800),
        "paper": Effort(seconds=30, min_steps=20, max_steps=200, blocks=10, timeout_s=7200),
    },
    margin=0.05,
)
