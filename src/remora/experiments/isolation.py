"""``remora bench isolation``: does a job that serves notice one that trains beside it?

Tally (ASPLOS'25) asks this of jobs on one accelerator: inference beside training, by the tail of
latency and the throughput of both. Here a row names who makes the two share, its executor: the
operating system, or a server that owns its cores and does not preempt. Latency is timed from when
a request came, not only from when it was turned to: see
:mod:`remora.experiments.isolation_published` for what that tells apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from remora.core.errors import BadValue
from remora.experiments.isolation_rows import ALL_PAIRS, Pair, parse_pairs, rows
from remora.lab.design import Design, Effort
from remora.systems.beside.sharing import parse_way

LOADS = (0.5,)
SLICED = "priority+slicing:min-wait=1ms,turnaround=1ms,unsliced-after=10s"
"""The published pause of 100 ms, after which units run whole, comes before every thirtieth request
where these come at random at 33 a second: p99 would be that of whole units."""
_QUICK = parse_pairs("bert:resnet50,bert:gpt2,llama:resnet50,llama:whisper")
_FEW = ("plain", "idle")
_DEVICE = ("fifo", "priority", "priority+min-wait:min-wait=1ms", SLICED)
_MORE = ("plain", "nice", "idle", "stop", *_DEVICE)
_PAIRS = {
    "validate": (Pair("llama-2-7b-decode", "mlp-train"),),
    "quick": _QUICK,
    "standard": ALL_PAIRS,
    "paper": ALL_PAIRS,
}
_POLICIES = {"validate": (*_FEW, "priority"), "quick": _FEW, "standard": _MORE, "paper": _MORE}
_ON_CUDA = ("time-slicing", "gate")
_SIZES = {"validate": "quick"}
"""Whose sizes workloads have, where a scale is the experiment's own."""

DESIGN = Design(
    name="isolation",
    title="Does a job that serves notice one that trains beside it?",
    question=(
        "How much longer do requests take, from their arrival, when another job trains on the same "
        "device, and how much of what serving leaves does the training get?"
    ),
    workloads={
        scale: tuple(dict.fromkeys(pair.serves for pair in pairs))
        for scale, pairs in _PAIRS.items()
    },
    systems={
        scale: rows(pairs, _POLICIES[scale], LOADS, _SIZES.get(scale, scale))
        for scale, pairs in _PAIRS.items()
    },
    efforts={
        "validate": Effort(
            seconds=2, min_steps=4, max_steps=200, blocks=2, timeout_s=120, executor="forkserver"
        ),
        "quick": Effort(
            seconds=6, min_steps=8, blocks=4, budget_s=600, timeout_s=180, executor="forkserver"
        ),
        "standard": Effort(seconds=60, blocks=10, timeout_s=1800),
        "paper": Effort(seconds=300, blocks=10, timeout_s=7200),
    },
    margin=0.05,  # the aim on a CPU: a response p99 within 5 % of that alone
    rows_by={
        **dict.fromkeys(("job", "job_scale"), "--pairs and --scale"),
        "policy": "--policy",
        "executor": "--policy",
        "load": "--load",
    },
    skips_too_large=True,
)


def tailored(
    design: Design,
    loads: Sequence[float],
    pairs: str,
    policies: Sequence[str] = (),
    device: str = "cpu",
) -> Design:
    """``design`` at these loads, of these pairs, under these policies, on devices of that type; its
    own where none is given.

    Raises:
        BadValue: a load that is no share, or another experiment, which has none of them.
        UnknownName: a pair of which there is no such workload, or no such policy.
    """
    is_own = design.name == DESIGN.name
    if not (loads or pairs or policies) and not (is_own and device != "cpu"):
        return design
    if not is_own:
        raise BadValue(
            f"--load, --pairs and --policy are of the experiment {DESIGN.name}; leave them out"
        )
    if wrong := [load for load in loads if not 0 < load < 1]:
        raise BadValue(f"--load {wrong[0]:g}: choose a share between 0 and 1, such as 0.5")
    for policy in policies:
        parse_way(policy, device)
    asked = parse_pairs(pairs) if pairs else ()
    return _design(
        {scale: asked or own for scale, own in _PAIRS.items()},
        {
            scale: tuple(dict.fromkeys(policies)) or (own if device == "cpu" else _ON_CUDA)
            for scale, own in _POLICIES.items()
        },
        tuple(dict.fromkeys(loads)) or LOADS,
        device,
    )


def _design(
    pairs: Mapping[str, Sequence[Pair]],
    policies: Mapping[str, Sequence[str]],
    loads: Sequence[float],
    device: str,
) -> Design:
    return replace(
        DESIGN,
        workloads={
            scale: tuple(dict.fromkeys(pair.serves for pair in each))
            for scale, each in pairs.items()
        },
        systems={
            scale: rows(each, policies[scale], loads, _SIZES.get(scale, scale), device)
            for scale, each in pairs.items()
        },
    )
