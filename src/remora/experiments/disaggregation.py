"""``remora bench disaggregation``: what does it cost to run a model elsewhere, and what helps?

Genie/Djinn, the benchmark of semantic disaggregation: workloads × ways of calling a model in
another process. Theirs are a model here, weights and inputs sent with every call, a graph that
stays, weights that stay, and all that a server can know. Each of our rows is the one before it with
one thing more that stays, so what that thing is worth is the difference of two rows. All go over
one wire.
"""

from __future__ import annotations

from remora.experiments.disaggregation_rows import (
    ALL,
    CAPTURED,
    FULL,
    LOCAL_REMOTE,
    NAIVE,
    PEERS,
    few,
    over_networks,
    row,
)
from remora.lab.design import Design, Effort

_WORKLOADS = (
    *("gpt2-decode", "gpt2-prefill"),
    *("resnet50-forward", "clip-vit-b32-forward", "micro-matmul-forward"),
)
_LARGE = ("gpt2-xl-decode", "gpt2-xl-prefill", *_WORKLOADS[2:])
_NETWORKS = tuple(over_networks(row(NAIVE), row(LOCAL_REMOTE), row(FULL)))
_STREAMED = tuple(over_networks(row(FULL), modes=("decode",)))
_RACK = next(over_networks(row(NAIVE), modes=("decode",)))
"""A step of it sends the weights as often as it makes tokens: a minute, for GPT-2."""

DESIGN = Design(
    name="disaggregation",
    title="What does it cost to run a model elsewhere?",
    question=(
        "How much longer does a step take, and how many bytes cross, when a model runs in another "
        "process, and what is it worth that graph, weights, state and outputs stay there?"
    ),
    workloads={
        "validate": _WORKLOADS,
        "quick": _WORKLOADS,
        "standard": _WORKLOADS,
        "paper": _LARGE,
    },
    systems={
        "validate": (*few("native", FULL), _STREAMED[0], _RACK),
        "quick": (*few("native", CAPTURED, NAIVE, FULL, *PEERS), *_STREAMED, _RACK),
        "standard": (*ALL, *_NETWORKS),
        "paper": (*ALL, *_NETWORKS),
    },
    built_at={"quick": {"gpt2-decode": "standard", "gpt2-prefill": "standard"}},
    efforts={
        "validate": Effort(
            seconds=0.05, min_steps=2, max_steps=2, blocks=1, timeout_s=60, executor="forkserver"
        ),
        "quick": Effort(
            seconds=1, min_steps=3, blocks=4, budget_s=900, timeout_s=300, executor="forkserver"
        ),
        "standard": Effort(seconds=10, min_steps=5, max_steps=200, blocks=8, timeout_s=1800),
        "paper": Effort(seconds=30, min_steps=20, max_steps=200, blocks=10, timeout_s=7200),
    },
    margin=0.05,
)
