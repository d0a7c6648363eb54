"""A choice in words: what was chosen, which rule decided, and what to expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from remora.core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from remora.checkpoint.policy.records import Choice, LimitedBy

_UP = 1 + 1e-9
"""A product that equals another may differ in its last digit."""


def sentence(choice: Choice) -> str:
    """One line: the interval, the reason for it, its price."""
    return f"{_what(choice)}: {_REASONS[choice.limited_by](choice)}; {_price(choice)}"


def _what(choice: Choice) -> str:
    steps = "every step" if choice.every == 1 else f"every {choice.every} steps"
    threads = "1 thread" if choice.threads == 1 else f"{choice.threads} threads"
    return (
        f"{steps} ({format_seconds(choice.interval_s)}), {choice.in_flight} in flight, "
        f"{threads} of {format_bytes(choice.chunk_bytes)} chunks"
    )


def _price(choice: Choice) -> str:
    return (
        f"expect {choice.expected_overhead:.2%} overhead, "
        f"and {format_seconds(choice.expected_lost_s)} lost by a failure"
    )


def _by_bandwidth(choice: Choice) -> str:
    measured = choice.measured
    return (
        f"storage sustains {format_bytes(measured.sustained_write_bytes_s)}/s, so that "
        f"{format_bytes(measured.state_bytes)} take {choice.bounds.bandwidth:.1f} steps"
    )


def _by_overhead(choice: Choice) -> str:
    return (
        f"a checkpoint costs {format_seconds(choice.cost_s)} and at most "
        f"{choice.wanted.max_overhead:.2%} overhead is wanted"
    )


def _by_failure_rate(choice: Choice) -> str:
    wanted, cost = choice.wanted, format_seconds(choice.cost_s)
    interval_s = choice.bounds.failure_rate * choice.measured.step_s
    if choice.cost_s < wanted.negligible * interval_s * _UP:
        return f"a checkpoint costs {cost}, and {wanted.negligible:.2%} overhead is next to nothing"
    apart = format_seconds(wanted.mtbf_s)
    return f"a checkpoint costs {cost} and failures are {apart} apart, where this loses least"


def _by_memory(choice: Choice) -> str:
    memory = format_bytes(choice.wanted.memory_bytes or 0)
    return f"{memory} of staging hold {choice.in_flight} in flight, {_latency(choice)}"


def _by_in_flight(choice: Choice) -> str:
    return f"at most {choice.wanted.in_flight} may be in flight, {_latency(choice)}"


def _latency(choice: Choice) -> str:
    return f"and each takes {format_seconds(choice.measured.latency_s)} to become durable"


_REASONS: Mapping[LimitedBy, Callable[[Choice], str]] = {
    "bandwidth": _by_bandwidth,
    "overhead": _by_overhead,
    "failure rate": _by_failure_rate,
    "memory": _by_memory,
    "in flight": _by_in_flight,
    "nothing": lambda choice: "nothing asks for a longer interval",
}
