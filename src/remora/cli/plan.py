"""``remora share plan``: what a policy would do, before anything shares anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.errors import BadValue
from remora.core.units import format_seconds, parse_fraction, parse_ns

if TYPE_CHECKING:
    from rich.console import Console

    from remora.experiments.share_plan import PlanRow, Ratio
    from remora.share.arrivals.contract import Arrivals
    from remora.share.simulator.scenario import Scenario


def plan(
    high: Annotated[
        str, typer.Option("--hp-latency", metavar="TIME", help="One request alone: 10ms.")
    ],
    unit: Annotated[
        str, typer.Option("--be-unit", metavar="TIME", help="One best-effort unit alone: 44ms.")
    ],
    load: Annotated[
        str,
        typer.Option("--load", metavar="SHARE", help="Of the device that requests need: 0.5."),
    ] = "0.5",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME[:OPTION=VALUE,…]", help="May be given again; else all."
        ),
    ] = None,
    arrivals: Annotated[
        str,
        typer.Option("--arrivals", metavar="NAME[:OPTION=VALUE,…]", help="poisson, gamma, bursts."),
    ] = "poisson",
    trace: Annotated[
        list[Path] | None,
        typer.Option("--trace", metavar="CSV", help="Days of function invocations, in order."),
    ] = None,
    units: Annotated[int, typer.Option("--hp-units", metavar="N", help="Units of a request.")] = 10,
    gap: Annotated[
        str, typer.Option("--hp-gap", metavar="TIME", help="Between two of them.")
    ] = "20us",
    slices: Annotated[
        int, typer.Option("--be-slices", metavar="N", help="Most slices of a best-effort unit.")
    ] = 1024,
    slice_cost: Annotated[
        str, typer.Option("--slice-cost", metavar="TIME", help="What each slice costs.")
    ] = "16us",
    complementing: Annotated[
        float,
        typer.Option("--complementing", help="How much two slow each other that run at once."),
    ] = 1.0,
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", help="Each with its own arrivals; 2 or more.")
    ] = 4,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long each is simulated.")
    ] = "60s",
    seed: Annotated[int, typer.Option("--seed", help="Of the arrivals.")] = 0,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="Simulate so many devices at a time.")
    ] = 1,
) -> None:
    """Simulate a job that serves beside one that trains, under one policy or several.

    Each percentile is over that of the serving job alone, with the same arrivals.
    """
    from remora.experiments.share_plan import plan_rows
    from remora.share.policies.registry import names, parse_choice
    from remora.share.simulator.scenario import Scenario

    if devices < 2:
        raise BadValue(f"--devices {devices}: percentiles are bounded from 2 devices on")
    scenario = Scenario(
        parse_ns(high), parse_fraction(load), parse_ns(unit), units, parse_ns(gap), slices,
        parse_ns(slice_cost), _arrivals(arrivals, trace or ()), parse_ns(duration), devices, seed,
        complementing,
    )  # fmt: skip
    choices = [parse_choice(each) for each in policy or names()]
    rows = list(plan_rows(scenario, choices, processes))
    show(rows, scenario, plain_console())


def _arrivals(name: str, trace: Sequence[Path]) -> Arrivals:
    from remora.share.arrivals.invocations import busiest_function
    from remora.share.arrivals.registry import parse_arrivals

    return busiest_function(trace) if trace else parse_arrivals(name)


def show(rows: Sequence[PlanRow], scenario: Scenario, console: Console) -> None:
    """A table, and what must be known to read it."""
    executor = ", ".join(sorted({row.executor for row in rows}))
    console.print(f"executor: {executor}; {_described(scenario)}", soft_wrap=True)
    table = _table(rows)
    wide = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    # A terminal that is too narrow wraps lines; numbers cut short would be wrong ones.
    console.width = max(wide, console.width)
    console.print(table)
    for note in _notes(rows, scenario):
        console.print(note, soft_wrap=True)


def _described(scenario: Scenario) -> str:
    return (
        f"requests of {_time(scenario.high_latency_ns)} ({scenario.high_units} units) at load "
        f"{scenario.load:g}, {scenario.arrivals.name}; best-effort units of "
        f"{_time(scenario.best_effort_ns)}; {scenario.devices} devices, "
        f"{format_seconds(scenario.duration_ns / 1e9)} each"
    )


def _table(rows: Sequence[PlanRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("policy", "× alone"):
        table.add_column(column, no_wrap=True)
    for column in ("p50", "p90", "p95", "p99", "best\neffort", "waits", "backlog"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        name, _, options = row.policy.partition(":")
        share = f"{row.best_effort_of_left:.2f}"
        backlog = "grows" if row.unstable_devices else f"{row.most_backlog}"
        table.add_row(name, "response", *_cells(row.response), share, _wait(row), backlog)
        first, *rest = options.split(",")
        table.add_row(f"  {first}", "service", *_cells(row.service), "", _first_wait(row), "")
        for option in rest:
            table.add_row(f"  {option}")
    return table


def _cells(ratios: Sequence[Ratio]) -> list[str]:
    """All as they are, the last with its bounds."""
    return [*(_number(each.value) for each in ratios[:-1]), _bounded(ratios[-1])]


def _notes(rows: Sequence[PlanRow], scenario: Scenario) -> list[str]:
    notes = [
        "response: from arrival; service: from when the program turned to the request",
        "in brackets: bounds of the percentile at 95 %, from order statistics",
        "best effort: work done, over what the job alone leaves of the device",
        "waits: a unit of high priority for best-effort work, at most",
    ]
    if any(row.unstable_devices for row in rows):
        notes.append("grows: the queue does; its percentiles say only how long was simulated")
    if any(row.runs_beside for row in rows):
        notes.append(
            f"runs beside: as if each of two at once took {scenario.complementing:g} × as long; "
            "measure it, and set --complementing"
        )
    notes += [
        f"{row.policy.partition(':')[0]}: {row.beyond_bound:.0%} of runs are longer than its "
        "bound; no slice is as short"
        for row in rows
        if row.beyond_bound
    ]
    return notes


def _number(value: float | None) -> str:
    if value is None:
        return "too few"
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _bounded(ratio: Ratio) -> str:
    if ratio.value is None:
        return _number(None)
    return f"{_number(ratio.value)} ({_number(ratio.low)}–{_number(ratio.high)})"


def _wait(row: PlanRow) -> str:
    if row.runs_beside:
        return "runs beside"
    return "no bound" if row.high_wait_ns is None else _time(row.high_wait_ns)


def _first_wait(row: PlanRow) -> str:
    """Where the first request after a long absence may find more in its way."""
    if row.runs_beside or row.high_wait_first_ns in (None, row.high_wait_ns):
        return ""
    return f"first {_time(row.high_wait_first_ns or 0)}"


def _time(ns: int) -> str:
    return format_seconds(ns / 1e9)
