"""``remora bench checkpoint-sensitivity``: what does the time of one checkpoint depend on?

PCcheck (ASPLOS 2025), figure 11: the time for one checkpoint of 10, 100, 1,000 and 10,000 MB, by
four writers, over 20 steps. Here the threads, the chunk and the staging memory are varied too, one
at a time from the defaults; the states of that size belong to the ``device-like`` workloads.
"""

from __future__ import annotations

from remora.lab.design import Chosen, Design, Effort
from remora.lab.results import Curve, Quantity

_OURS = "remora-checkpoint"
_SIZES = tuple(f"device-like-{size}-train" for size in ("s", "m", "l", "xl"))


def _varied(every: int, threads: int) -> tuple[Chosen, ...]:
    """The base, then each setting alone at other values."""
    base = {"every": every, "threads": threads}
    others = (
        *({"threads": count} for count in (1, 2, 4) if count != threads),
        *({"chunk_mib": size} for size in (1, 4, 32)),
        *({"memory_mib": size} for size in (64, 256, 1024)),
    )
    return (Chosen(_OURS, base), *(Chosen(_OURS, {**base, **other}) for other in others))


def _time_against(name: str, title: str, over: str, axis: str) -> Curve:
    quantity: Quantity = "durable_ms"
    return Curve(name=name, title=title, over=over, axis=axis, quantity=quantity)


DESIGN = Design(
    name="checkpoint-sensitivity",
    title="What does the time of one checkpoint depend on?",
    question=(
        "How long after it was asked for is a checkpoint durable, by the size of the state, the "
        "number of writers, the chunk and the staging memory, and what does the job notice of it?"
    ),
    workloads={
        "quick": ("device-like-s-train", "device-like-l-train", "device-like-xl-train"),
        "standard": _SIZES,
        "paper": _SIZES,
    },
    systems={
        "quick": _varied(every=4, threads=1),
        "standard": _varied(every=4, threads=1),
        "paper": _varied(every=4, threads=4),
    },
    efforts={
        "quick": Effort(
            seconds=4, min_steps=16, blocks=3, budget_s=840, timeout_s=150, executor="forkserver"
        ),
        "standard": Effort(seconds=20, min_steps=20, blocks=5, timeout_s=1800),
        "paper": Effort(seconds=20, min_steps=20, blocks=5, timeout_s=7200),
    },
    margin=0.02,
    warm_up="first period",
    curves=(
        _time_against("size", "Time of a checkpoint against its size", "state_mb", "state, MB"),
        _time_against("writers", "Time of a checkpoint against writers", "threads", "threads"),
        _time_against("chunk", "Time of a checkpoint against the chunk", "chunk_mib", "MiB"),
        _time_against(
            "memory", "Time of a checkpoint against memory", "memory_mib", "staging memory, MiB"
        ),
    ),
)
