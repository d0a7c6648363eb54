"""``remora checkpoint goodput``: useful work per hour while machines come and go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.errors import BadValue

if TYPE_CHECKING:
    from remora.checkpoint.goodput.model import GoodputRow
    from remora.checkpoint.goodput.prediction import LiveRow
    from remora.checkpoint.goodput.trace import Counting, Trace
    from remora.experiments.goodput_report import Scenario


def goodput(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RESULTS | -- SCRIPT ARGUMENTS",
            help="A results folder of checkpoint-goodput; with --live, a training script and its "
            "arguments behind --, or nothing for a small one of ours.",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="CSV", help="A preemption trace: index, time, GPUs."),
    ] = None,
    counting: Annotated[
        str,
        typer.Option("--counting", help="Which changes are failures: drops, changes or published."),
    ] = "drops",
    load: Annotated[float, typer.Option("--load", help="Seconds to read a checkpoint.")] = 0.0,
    restart: Annotated[
        float, typer.Option("--restart", help="Seconds from a failure until the program is up.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write goodput.csv and the figure to this folder.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Really kill and restart a job, and compare.")
    ] = False,
    every: Annotated[int, typer.Option("--every", help="With --live: the interval.")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", help="With --live: how long.")] = 120.0,
    mtbf: Annotated[
        float, typer.Option("--mtbf", help="Mean seconds between failures, where there is no CSV.")
    ] = 30.0,
    seed: Annotated[int, typer.Option("--seed", help="Of drawn failures.")] = 0,
) -> None:
    """Useful work per hour against the interval, while machines come and go.

    Replays a preemption trace over measured throughputs; the built-in trace is drawn, and says
    so. With --live a job is really killed and restarted, and the model held to that. A script given
    for it is resumed by replay, which takes the longer the further it has come; the model does not
    know that.
    """
    if live:
        kills = _kills(trace, counting, mtbf, seconds, seed)
        plain_console().print(_live_table(_run_live(arguments or [], every, seconds, kills)))
        return
    if not arguments or len(arguments) > 1:
        raise BadValue("give one results folder of `remora bench checkpoint-goodput`, or --live")
    _say_workloads(Path(arguments[0]), _scenario(trace, counting, load, restart, seed), out)


def _say_workloads(results: Path, scenario: Scenario, out: Path | None) -> None:
    from remora.experiments.goodput_report import goodput_rows, write_goodput
    from remora.lab.analysis import analyse_folder
    from remora.lab.folder import Folder

    analysis, trials = analyse_folder(Folder.open(results))
    rows = goodput_rows(analysis, scenario)
    console = plain_console()
    for workload, table in rows.items():
        first = table[0]
        times = "1 failure" if first.failures == 1 else f"{first.failures} failures"
        hours = f"{first.duration_s / 3600:.1f} h"
        console.print(f"{workload}, {first.trace}: {times} in {hours}", soft_wrap=True)
        console.print(_table(table))
    if out is not None:
        for path in write_goodput(analysis, trials, scenario, out):
            print(path)


def _trace(path: Path | None, seed: int) -> Trace:
    from remora.checkpoint.goodput.synthetic import synthetic_trace
    from remora.checkpoint.goodput.trace import read_trace

    return read_trace(path) if path is not None else synthetic_trace(seed, 4.0, 540.0)


def _scenario(
    trace: Path | None, counting: str, load: float, restart: float, seed: int
) -> Scenario:
    from remora.experiments.goodput_report import Scenario

    return Scenario(_trace(trace, seed), load_s=load, restart_s=restart, counting=_known(counting))


def _known(counting: str) -> Counting:
    from remora.checkpoint.goodput.trace import COUNTINGS

    found = next((each for each in COUNTINGS if each == counting), None)
    if found is None:
        raise BadValue(f"--counting {counting}: choose one of {', '.join(COUNTINGS)}")
    return found


def _table(rows: tuple[GoodputRow, ...]) -> Table:
    table = Table()
    for column in ("system", "every", "× none", "steps/h, replayed", "by formula", "lost steps"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for row in rows:
        table.add_row(
            row.label, str(row.every), f"{row.throughput:.3f}",
            f"{row.replay_steps_per_hour:,.0f} ({row.replay_share:.1%})",
            f"{row.formula_steps_per_hour:,.0f} ({row.formula_share:.1%})", f"{row.lost_steps:,}",
        )  # fmt: skip
    return table


def _kills(
    trace: Path | None, counting: str, mtbf: float, seconds: float, seed: int
) -> tuple[float, ...]:
    from remora.checkpoint.goodput.synthetic import compressed, exponential_failures

    if trace is None:
        return exponential_failures(seed, mtbf, seconds)
    recorded = _trace(trace, seed)
    moments = recorded.failures(_known(counting))
    return compressed(moments, recorded.duration_s / seconds)


def _run_live(script: list[str], every: int, seconds: float, kills: tuple[float, ...]) -> LiveRow:
    import tempfile

    from remora.checkpoint.goodput.live import Spawned, run_live
    from remora.checkpoint.goodput.prediction import live_row, pace_of

    with tempfile.TemporaryDirectory(prefix="remora-goodput-") as place:
        folder, progress = Path(place) / "saved", Path(place) / "progress"
        progress.touch()
        argv = _argv(script, folder, progress, every)
        log = Path(place) / "log"
        seen = run_live(argv, progress, kills, seconds, spawn=lambda a: Spawned(a, log))
        return live_row(seen, pace_of(seen, every))


def _argv(script: list[str], folder: Path, progress: Path, every: int) -> list[str]:
    if not script:
        job = ("-m", "remora.checkpoint.goodput.job", str(folder), str(progress))
        return [sys.executable, *job, str(every), "40"]
    ride = ("-m", "remora", "run", "--checkpoint", str(folder), "--every", str(every))
    return [sys.executable, *ride, "--progress", str(progress), *script]


def _live_table(row: LiveRow) -> Table:
    title = f"{row.kills} kills in {row.duration_s:.0f} s, a checkpoint every {row.every} steps"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("", "useful steps/h", "lost steps"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("measured", f"{row.measured_steps_per_hour:,.0f}", f"{row.measured_lost_steps:,}")
    table.add_row(
        "foretold by the replay",
        f"{row.predicted_steps_per_hour:,.0f} ({row.error:+.1%})",
        f"{row.predicted_lost_steps:,}",
    )
    return table
