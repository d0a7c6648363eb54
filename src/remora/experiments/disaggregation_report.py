"""What the report of a comparison of remote systems shows beside what every report does.

Three figures (latency, traffic, GPU), each with its tables, and the speed-ups as LaTeX. A number
that is not known is a dash, never 0; a row that failed or did other work says so in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from remora.core.colours import Palette
from remora.experiments.disaggregation_claims import bytes_per_step, claims_table, judged
from remora.experiments.disaggregation_published import CLAIMS, LOCAL
from remora.experiments.disaggregation_rows import (
    CAPTURED,
    FULL,
    LOCAL_REMOTE,
    NAIVE,
    NETWORKS,
    PEERS,
)
from remora.experiments.disaggregation_tables import (
    Trials,
    latency_csv,
    resources_table,
    shown_rows,
    speedup_latex,
    speedup_tables,
    traffic_table,
)
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import Sheet, Variant, sheet
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.tables import (
    ArmRow,
    by_workload,
)
from remora.lab.results import Analysis

_DRAWN = (CAPTURED, NAIVE, LOCAL_REMOTE, FULL, *PEERS)
"""Rows that the bars show, where there are any of them; the tables show all."""


def figures() -> tuple[Figure, ...]:
    """All of them, in the order they are shown."""
    return (
        Figure(
            "latency_comparison",
            "Latency against local",
            "Time a step × local in the same blocks, on a logarithmic axis, with its interval; "
            "below 1 is faster. A letter stands for each row; diamonds are the middle of the "
            "published range. Groups with a network under their name are the rows that were "
            "measured over it, against local without one.",
            "Bars of time a step × local by workload and row; the numbers are those of "
            "latency_comparison.csv.",
            _compares,
            _draw_latency,
            data="latency_comparison.csv",
            table=latency_csv,
            shown=lambda analysis, trials: (
                claims_table(judged(analysis, trials)),
                *speedup_tables(analysis, trials),
            ),
            beside=lambda analysis, trials: {"speedup_table.tex": speedup_latex(analysis, trials)},
        ),
        Figure(
            "network_traffic",
            "Bytes a step",
            "Bytes that crossed in a step, both ways, on a logarithmic axis, as the sockets of the "
            "calling process counted them. What it took to put the model there is not among them "
            "and is in the table. Ray moves tensors of 100 KiB and more through shared memory, "
            "which no socket counts.",
            "Bars of bytes a step by workload and row; the numbers are those of the table below.",
            lambda analysis, trials: any(bytes_per_step(row) for row in shown_rows(analysis)),
            _draw_traffic,
            shown=lambda analysis, trials: (traffic_table(analysis),),
        ),
        Figure(
            "gpu_utilization",
            "CPU and GPU",
            "Share of the time that the GPU was busy, where it is known; below it what the calling "
            "process and the one with the model take of CPU and memory.",
            "GPU utilisation by workload and row, or that it is unknown.",
            _compares,
            _draw_gpu,
            shown=lambda analysis, trials: (resources_table(analysis),),
        ),
    )


def _compares(analysis: Analysis, trials: Trials) -> bool:
    return any(row.arm.role == "system" for row in shown_rows(analysis))


# ---------------------------------------------------------------- drawings


def _draw_latency(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    def bar(row: ArmRow) -> Bar:
        versus = row.comparison
        between = versus.interval if versus is not None else None
        return Bar(
            value=None if versus is None or versus.verdict == "void" else versus.ratio,
            low=between.low if between is not None else None,
            high=between.high if between is not None else None,
            reference=_published(row),
        )

    return draw_bars(_chart(analysis, bar, networks=True), palette, variant)


def _published(row: ArmRow) -> float | None:
    """The middle of the published range, as a time × local."""
    for claim in CLAIMS:
        mine = claim.kind == "speed" and (claim.row, claim.base) == (row.arm.label, LOCAL)
        if mine and row.arm.workload.endswith(claim.workload) and claim.low and claim.high:
            return 2 / (claim.low + claim.high)
    return None


def _draw_traffic(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    def bar(row: ArmRow) -> Bar:
        return Bar(bytes_per_step(row) or None)

    return draw_bars(_chart(analysis, bar, write=_bytes, left_px=60.0), palette, variant)


def _draw_gpu(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    if all(row.cost("gpu_utilization") is None for row in shown_rows(analysis)):
        empty = sheet(palette, variant, 60)
        why = "this run was on a CPU" if analysis.plan.device == "cpu" else "nothing here can tell"
        empty.text(0, 30, f"GPU utilisation is unknown: {why}.", "muted")
        return empty

    def bar(row: ArmRow) -> Bar:
        busy = row.cost("gpu_utilization")
        return Bar(None if busy is None else max(100 * busy, 1.0))

    return draw_bars(_chart(analysis, bar, write="{:g} %".format), palette, variant)


def _chart(
    analysis: Analysis,
    bar: Callable[[ArmRow], Bar],
    write: Callable[[float], str] = "{:g}×".format,
    left_px: float = 46.0,
    *,
    networks: bool = False,
) -> BarChart:
    """A group for each workload, a bar for each drawn row that any of them has.

    Args:
        networks: whether what was measured over a network is drawn, in groups behind the others.
    """
    shown = [row for row in shown_rows(analysis) if row.arm.role == "system"]
    called = dict.fromkeys(row.arm.label.partition("@")[0] for row in shown)
    kinds = [name for name in called if name in _DRAWN] or list(called)
    rows = [row for row in shown if row.arm.label in kinds]
    groups = list(_groups(rows, "", kinds, bar))
    if networks:
        for name, network in NETWORKS.items():
            groups += _groups(shown, f"@{name}", kinds, bar, network.words)
    return BarChart(kinds, "middle of the published range", groups, write=write, left_px=left_px)


def _groups(
    rows: Sequence[ArmRow],
    over: str,
    kinds: Sequence[str],
    bar: Callable[[ArmRow], Bar],
    below: str = "",
) -> Iterator[Group]:
    """A group for each workload, of the kinds whose rows end in ``over`` and are run on it."""
    for name, mine in by_workload(rows).items():
        found = {row.arm.label: row for row in mine}
        there = [at for at, kind in enumerate(kinds) if kind + over in found]
        if there:
            bars = [bar(found[kinds[at] + over]) for at in there]
            some = None if len(there) == len(kinds) else there
            yield Group(name, bars, kinds=some, below=below)


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:g} {unit}"
        value /= 1000
    return f"{value:g} GB"
