"""``remora bench checkpoint-goodput``: useful work under preemptions, against the interval.

PCcheck (ASPLOS 2025), figure 9. The trials are those of ``checkpoint-throughput`` (figure 8); over
what they measured a trace of preemptions is replayed. Throughputs are matched to intervals by name
and not by position, and the time a checkpoint takes is the measured one. The trace is drawn, and
says so; ``remora checkpoint goodput RESULTS --trace CSV`` replays a recorded one over the same
results.
"""

from __future__ import annotations

from dataclasses import replace

from remora.experiments import checkpoint_throughput

DESIGN = replace(
    checkpoint_throughput.DESIGN,
    name="checkpoint-goodput",
    title="How much useful work is left of a job that is preempted again and again?",
    question=(
        "A job loses what it did since its newest durable checkpoint whenever a machine goes. "
        "Saving more often loses less and costs more: which system at which interval does the "
        "most work that stays?"
    ),
)
