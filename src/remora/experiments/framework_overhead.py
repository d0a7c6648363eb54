"""``remora bench framework-overhead``: what does a framework add to running a model elsewhere?

Genie/Djinn's second suite: five workloads, each run natively, by a server that knows nothing of
what it runs, by one that does, and by PyTorch's own RPC. Theirs had the native row generate 16
tokens and the remote rows run one forward, credited with 16 tokens. Here all rows do the same
work, which is checked on what they give.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.experiments.disaggregation_rows import CAPTURED, FULL, LOCAL_REMOTE, row
from remora.lab.design import Chosen, Design, Effort

NATIVE, BLIND, OURS, RPC = "native_pytorch", "semantic_blind", "full_remora", "pytorch_rpc"


@dataclass(frozen=True)
class Suite:
    """A workload as the suite calls it."""

    workload: str
    category: str


SUITE = {
    "hf_tiny_gpt2": Suite("tiny-gpt2-decode", "generation"),
    "llama_decode_1tok": Suite("llama-2-7b-decode", "decode"),
    "llama_prefill_1k": Suite("llama-2-7b-prefill", "prefill"),
    "bert_latency_bound": Suite("bert-base-forward", "latency bound"),
    "resnet50_batch8": Suite("resnet50-forward", "vision"),
}
BASELINES = {NATIVE: "native", BLIND: BLIND, OURS: OURS, RPC: RPC}
"""The suite's baselines, and the labels of their rows. The row ``captured`` is beside them to
explain one of ours that is faster than native."""
_SYSTEMS = (
    Chosen("native"),
    Chosen(CAPTURED),
    row(LOCAL_REMOTE)._replace(name=BLIND),
    row(FULL)._replace(name=OURS),
    Chosen("torch-rpc", name=RPC),
)
_WORKLOADS = tuple(each.workload for each in SUITE.values())

DESIGN = Design(
    name="framework-overhead",
    title="What does a framework add to running a model elsewhere?",
    question=(
        "How long does a small request take, natively, on a server that knows nothing of what it "
        "runs, on one that does, and behind PyTorch’s RPC, and where is that time spent?"
    ),
    workloads=dict.fromkeys(("validate", "quick", "standard", "paper"), _WORKLOADS),
    systems=dict.fromkeys(("validate", "quick", "standard", "paper"), _SYSTEMS),
    efforts={
        "validate": Effort(
            seconds=0.05, min_steps=2, max_steps=2, blocks=1, timeout_s=60, executor="forkserver"
        ),
        "quick": Effort(
            seconds=1, min_steps=8, blocks=5, budget_s=900, timeout_s=120, executor="forkserver"
        ),
        "standard": Effort(seconds=10, min_steps=20, blocks=8, timeout_s=1800),
        "paper": Effort(seconds=30, min_steps=20, blocks=10, timeout_s=7200),
    },
    margin=0.05,
    aliases={
        **{name: each.workload for name, each in SUITE.items()},
        **BASELINES,
        "full_djinn": OURS,
    },
)
