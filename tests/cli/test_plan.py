"""``remora share plan``: the table compared whole, and what it says to what cannot be."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.commands import Command

from remora.cli.plan import show
from remora.experiments.share_plan import PlanRow, Ratio
from remora.share.arrivals.invocations import HEADER
from remora.share.simulator.scenario import Scenario

MS = 1_000_000


def ratios(*values: float) -> tuple[Ratio, ...]:
    return tuple(Ratio(each, each * 0.9, each * 1.1) for each in values)


ROWS = [
    PlanRow(
        "fifo", ratios(900, 901.6, 25_000, 99.99), (*ratios(25, 25, 25), Ratio(None)),
        1.9, None, None, False, 1234, 2, 0.0,
    ),
    PlanRow(
        "priority+slicing:turnaround=3ms,floor=10%",
        ratios(1, 1.01, 1.05, 1.08), ratios(1, 1, 1, 1.005),
        0.985, 3 * MS, 44 * MS, False, 7, 0, 0.123,
    ),
    PlanRow(
        "complementary", ratios(1, 1, 1, 1), ratios(1, 1, 1, 1), 1.2, 44 * MS, 44 * MS, True, 7,
        0, 0.0,
    ),
]  # fmt: skip

SHOWN = """\

                                                                        best
 policy            × alone     p50    p90     p95                p99  effort        waits  backlog
 ─────────────────────────────────────────────────────────────────────────────────────────────────
 fifo              response    900    902  25,000  99.99 (89.99–110)    1.90     no bound    grows
                   service   25.00  25.00   25.00            too few
 priority+slicing  response   1.00   1.01    1.05   1.08 (0.97–1.19)    0.98         3 ms        7
   turnaround=3ms  service    1.00   1.00    1.00   1.00 (0.90–1.11)          first 44 ms
   floor=10%
 complementary     response   1.00   1.00    1.00   1.00 (0.90–1.10)    1.20  runs beside        7
                   service    1.00   1.00    1.00   1.00 (0.90–1.10)

response: from arrival; service: from when the program turned to the request
in brackets: bounds of the percentile at 95 %, from order statistics
best effort: work done, over what the job alone leaves of the device
waits: a unit of high priority for best-effort work, at most
grows: the queue does; its percentiles say only how long was simulated
runs beside: as if each of two at once took 1 × as long; measure it, and set --complementing
priority+slicing: 12% of runs are longer than its bound; no slice is as short
"""


@pytest.mark.parametrize("width", [100, 60])
def test_the_table_is_as_it_should_be_however_narrow_the_screen(width: int) -> None:
    console = Console(file=StringIO(), width=width, highlight=False, markup=False)
    show(ROWS, Scenario(10 * MS, 0.5, 44 * MS), console)
    assert isinstance(console.file, StringIO)
    first, *rest = (line.rstrip() for line in console.file.getvalue().splitlines())
    assert first == (
        "executor: simulator; requests of 10 ms (10 units) at load 0.5, poisson; best-effort units "
        "of 44 ms; 4 devices, 1 min 00 s each"
    )
    assert rest == SHOWN.splitlines()


def test_it_plans(command: Command) -> None:
    code, out, err = command(
        "share", "plan", "--hp-latency", "10ms", "--load", "0.5", "--be-unit", "44ms",
        "--policy", "priority", "--policy", "priority+slicing:turnaround=3ms",
        "--for", "5s", "--devices", 2,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith("executor: simulator; requests of 10 ms (10 units) at load 0.5, poisson;")
    assert "grows" in out


def test_it_plans_with_a_trace(command: Command, tmp_path: Path) -> None:
    day = tmp_path / "d03.csv"
    row = ["owner", "app", "function", "http", *["2"] * 1440]
    day.write_text(",".join(HEADER) + "\n" + ",".join(row) + "\n", encoding="utf-8")
    code, out, err = command(
        "share", "plan", "--hp-latency", "10ms", "--be-unit", "5ms", "--policy", "priority",
        "--trace", day, "--for", "20s", "--devices", 2,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "at load 0.5, trace; best-effort units of 5 ms" in out
    assert "grows" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy", "priorty"], "unknown policy 'priorty' (did you mean 'priority'?)"),
        (["--policy", "priority+slicing:turnaround=1us"], "choose at least that as turnaround"),
        (["--arrivals", "poison"], "unknown arrivals 'poison' (did you mean 'poisson'?)"),
        (["--trace", "nowhere.csv"], "nowhere.csv: No such file or directory; give a day"),
        (["--load", "150%"], "load=1.5: at 1 the high-priority job alone would not keep up"),
        (["--devices", "1"], "--devices 1: percentiles are bounded from 2 devices on"),
        (["--hp-gap", "2ms"], "do not fit in a request of 10 ms"),
        (["--for", "soon"], "'soon' is not a duration"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    command: Command, options: list[str], says: str
) -> None:
    given = ("share", "plan", "--hp-latency", "10ms", "--be-unit", "44ms")
    code, out, err = command(*given, *options)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
