"""How many steps apart checkpoints should be: each rule as a function of what was measured.

Seconds and bytes throughout; an interval is a real number of steps until ``choose`` rounds it.
"""

from __future__ import annotations

import math

from remora.checkpoint.policy.records import Bounds, Measured, Wanted


def bounds(measured: Measured, wanted: Wanted) -> Bounds:
    """What each rule asks for."""
    cost_s = predicted_cost_s(measured, wanted)
    in_flight = most_in_flight(measured, wanted)
    latency = latency_s(measured) / (in_flight * measured.step_s)
    squeezed = in_flight < wanted.in_flight
    return Bounds(
        bandwidth=seconds_on_storage(measured, wanted) / measured.step_s,
        overhead=cost_s / (wanted.max_overhead * measured.step_s),
        memory=latency if squeezed else 0.0,
        in_flight=0.0 if squeezed else latency,
        failure_rate=worthwhile_interval_s(cost_s, wanted) / measured.step_s,
    )


def seconds_on_storage(measured: Measured, wanted: Wanted) -> float:
    """How long storage works on one checkpoint, with its headroom kept."""
    usable = measured.sustained_write_bytes_s * (1 - wanted.headroom)
    return measured.state_bytes / usable


def latency_s(measured: Measured) -> float:
    """From the step until durable: as measured, and never less than the write itself takes."""
    return max(measured.latency_s, measured.state_bytes / measured.sustained_write_bytes_s)


def most_in_flight(measured: Measured, wanted: Wanted) -> int:
    """Checkpoints that may be on their way at once: the limit given, or what memory holds whole.

    One is always possible: it goes through the budget chunk by chunk, at the speed of storage.
    """
    if wanted.memory_bytes is None:
        return wanted.in_flight
    return min(wanted.in_flight, max(1, wanted.memory_bytes // measured.state_bytes))


def needed_in_flight(interval_s: float, measured: Measured, wanted: Wanted) -> int:
    """≥ latency / interval, and at least 2: a slow write does not make the next one wait."""
    needed = max(2, math.ceil(latency_s(measured) / interval_s))
    return min(needed, most_in_flight(measured, wanted))


def predicted_cost_s(measured: Measured, wanted: Wanted) -> float:
    """What one checkpoint adds to training.

    A state larger than the staging budget is copied no faster than storage takes it, and the next
    optimizer step waits for the rest: at least so much is foreseen even where it was not yet seen.
    """
    seen = measured.seen_cost_s
    if wanted.memory_bytes is None or wanted.memory_bytes >= measured.state_bytes:
        return seen
    beyond = measured.state_bytes - wanted.memory_bytes
    copying = wanted.memory_bytes / measured.copy_bytes_s
    return max(seen, copying + beyond / measured.sustained_write_bytes_s - measured.step_s)


def expected_lost_s(interval_s: float, latency: float) -> float:
    """Training that a failure undoes, on average, in seconds: interval / 2 + latency.

    A failure finds the newest durable checkpoint's step between ``latency`` (it has just become
    durable) and ``latency + interval`` (the next is just about to) in the past.
    """
    return interval_s / 2 + latency


def whole(steps: float) -> int:
    """The least whole number of steps, 1 or more, that respects the bound ``steps``.

    A bound of 4.000000000000001 is 4: what a division leaves is no reason for a fifth step.
    """
    return max(1, math.ceil(steps - 1e-9))


def worthwhile_interval_s(cost_s: float, wanted: Wanted) -> float:
    """Daly's interval, or the shorter one at which the overhead is already negligible.

    Where a checkpoint costs next to nothing the optimum is so flat that the noise in that cost
    would decide, and a user would rather lose a second of work than a minute for the same price.
    """
    optimum = daly_interval_s(cost_s, wanted.mtbf_s)
    return min(optimum, cost_s / wanted.negligible) if wanted.negligible else optimum


def young_interval_s(cost_s: float, mtbf_s: float) -> float:
    """√(2 · cost · MTBF): Young 1974, the first-order optimum of cost / τ + τ / (2 · MTBF)."""
    return math.sqrt(2 * cost_s * mtbf_s)


def daly_interval_s(cost_s: float, mtbf_s: float) -> float:
    """Seconds of training between checkpoints that lose least: Daly 2006, higher-order estimate.

    Young's interval with two more terms of its series, and the MTBF itself where a checkpoint
    costs twice that or more.
    """
    if cost_s == 0:
        return 0.0
    if cost_s >= 2 * mtbf_s:
        return mtbf_s
    share = cost_s / (2 * mtbf_s)
    series = 1 + math.sqrt(share) / 3 + share / 9
    return young_interval_s(cost_s, mtbf_s) * series - cost_s


def slowdown(work_s: float, cost_s: float, mtbf_s: float) -> float:
    """Expected time for each second of work, failures arriving as a Poisson process.

    Daly 2006, the complete cost function without its factor exp(restart / MTBF), which no interval
    changes: (M / τ) · (exp((τ + cost) / M) − 1). Infinite where a float cannot hold it.
    """
    exponent = (work_s + cost_s) / mtbf_s
    return mtbf_s / work_s * math.expm1(exponent) if exponent < 700 else math.inf
