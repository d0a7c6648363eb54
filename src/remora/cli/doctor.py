"""``remora doctor``: what this machine can measure, how noisily, and what is missing for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.units import format_bytes

if TYPE_CHECKING:
    from remora.lab.results import Environment


def doctor(
    probe: Annotated[bool, typer.Option(help="Measure the machine's noise (10 seconds).")] = True,
) -> None:
    """Show machine, versions and devices, probe the noise, and say what is missing for what."""
    from remora.lab.environment import capture

    console = plain_console()
    environment = capture(threads=1)
    console.print(_environment(environment))
    if probe:
        from remora.lab.noise import measure_noise

        noise = measure_noise(seconds=10.0)
        console.print(f"noise: {noise.sentence}")
    console.print(_missing())


def _environment(environment: Environment) -> Table:
    table = Table(show_header=False, title="This machine", title_justify="left")
    for section in ("machine", "load", "versions", "device"):
        for key, value in getattr(environment, section).items():
            table.add_row(key.removesuffix("_bytes"), _shown(key, value))
    if not environment.device:
        table.add_row("cuda", "none; everything runs on the CPU")
    return table


def _shown(key: str, value: object) -> str:
    if value is None:
        return "–"
    if key.endswith("_bytes") and isinstance(value, int | float):
        return format_bytes(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _missing() -> Table:
    from remora.experiments.requirements import requirements

    needed = requirements()
    wanted: dict[tuple[str, str, str], list[str]] = {}
    for each in needed:
        row = (each.need, each.state, each.remedy or "–")
        wanted.setdefault(row, []).append(each.experiment)
    table = Table(title="What the experiments need", title_justify="left")
    table.add_column("needs", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("to bring it", no_wrap=True)
    table.add_column("for", overflow="fold")
    names = {each.experiment for each in needed}
    for row, experiments in wanted.items():
        table.add_row(*row, "all" if set(experiments) == names else ", ".join(experiments))
    return table
