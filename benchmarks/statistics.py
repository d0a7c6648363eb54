"""How often the lab's statistics err: prints the tables of docs/statistics.md.

python -m benchmarks.statistics            # about four minutes
python -m benchmarks.statistics --scale 10 # ten times the experiments
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from remora.lab.statistics.simulation import (
    DISTURBED,
    PLAIN,
    RUNS,
    Noise,
    coverage,
    promised_power,
    raw_step_alarms,
    settled_rates,
    tail_rates,
    verdict_shares,
)

BLOCKS = (5, 10, 20, 40)
NESTED = Noise(between=0.01, within=0.03, steps=400)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table under its title."""
    lines = [f"**{title}**", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def intervals(scale: float) -> str:
    def row(blocks: int) -> list[str]:
        cells = [str(blocks)]
        for effect in (0.02, 0.05, 0.20):
            share, bias = coverage(blocks, effect, round(5000 * scale))
            cells.append(f"{percent(share)} ({100 * bias:+.2f} points)")
        cells.append(percent(coverage(blocks, 0.05, round(5000 * scale), noise=DISTURBED)[0]))
        return cells

    header = ("blocks", "2 % injected", "5 % injected", "20 % injected", "5 %, trials disturbed")
    title = "Share of 95 % intervals that hold the injected overhead (mean error of the estimate)"
    return table(title, header, map(row, BLOCKS))


def verdicts(scale: float) -> str:
    def alarms(blocks: int, arms: int) -> str:
        shares = verdict_shares(blocks, 0.0, round(4000 * scale), arms=arms)
        return percent(shares["costs"] + shares["gains"])

    def row(blocks: int) -> list[str]:
        experiments = round(4000 * scale)
        cells = [str(blocks), alarms(blocks, 1), alarms(blocks, 6)]
        for arms in (1, 6):
            shares = verdict_shares(blocks, 0.05, experiments, arms=arms, margin=0.05)
            cells.append(percent(shares["no cost"]))
        effect, told = promised_power(blocks, experiments)
        return [*cells, percent(effect), percent(told)]

    header = ("blocks", "A/A called different", "any of 6 arms", "cost = margin called none",
              "any of 6 arms", "effect promised at 80 %", "told in")  # fmt: skip
    return table("Verdicts", header, map(row, BLOCKS))


def raw_steps(scale: float) -> str:
    rows = [
        (str(steps), percent(raw_step_alarms(round(2000 * scale), noise=Noise(steps=steps))))
        for steps in (30, 300)
    ]
    title = "Welch's test over raw steps of identical code, 5 trials an arm"
    return table(title, ("steps a trial", "called different"), rows)


def tails(scale: float) -> str:
    def row(trials: int) -> list[str]:
        cells = [str(trials)]
        for quantile in (0.5, 0.95, 0.99):
            valid, wrong = tail_rates(trials, quantile, round(500 * scale), noise=NESTED)
            cells.append(f"{percent(valid)}, {percent(wrong)}")
        return cells

    title = "Tails over trials of 400 steps: share valid, share of experiments with wrong bounds"
    return table(title, ("trials", "p50", "p95", "p99"), map(row, (3, 5, 10, 20)))


def settling(scale: float) -> str:
    def cell(name: str, steps: int, heavy: bool, period: int) -> str:
        experiments = round(1000 * scale)
        settled, before = settled_rates(RUNS[name], steps, experiments, heavy=heavy, period=period)
        return f"{percent(settled)}, {percent(before)}" if settled > 0.5 else percent(settled)

    kinds = [(8, False, 1), (20, False, 1), (100, False, 1), (1000, False, 1), (100, True, 1),
             (160, False, 10)]  # fmt: skip
    header = ("run", "8 steps", "20", "100", "1000", "100, heavy-tailed", "160, ×3 every 10th")
    rows = [[name, *(cell(name, *kind) for kind in kinds)] for name in RUNS]
    title = "Runs called settled, and the median share of the run found to lie before"
    return table(title, header, rows)


TABLES: tuple[Callable[[float], str], ...] = (intervals, verdicts, raw_steps, tails, settling)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics")
    parser.add_argument("--scale", type=float, default=1.0, help="experiments, times this")
    scale = parser.parse_args(arguments).scale
    print(f"Noise: {PLAIN}\nTails: {NESTED}\n")
    for make in TABLES:
        print(make(scale), flush=True)


if __name__ == "__main__":
    main()
