"""What a running experiment looks like: one live line in a terminal, one line a block elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from remora.cli.console import plain_console
from remora.core.units import format_seconds
from remora.lab.events import (
    Event,
    GivenUp,
    PilotRead,
    Planned,
    Stopped,
    TrialEnded,
    TrialStarted,
)
from remora.lab.failures import rerun_command
from remora.lab.results import Pilot, Plan, Trial


class Screen:
    """Turns the lab's events into lines. Used as a context manager."""

    def __init__(
        self, folder: Path, budget_s: float | None, console: Console | None = None
    ) -> None:
        self.folder, self.budget_s = folder, budget_s
        self.console = console or plain_console(stderr=True)
        self.began = time.monotonic()
        self.plan: Plan | None = None
        self.seconds: list[float] = []
        self.done_before = 0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials · {task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task("starting", total=None, left="")

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_event(self, event: Event) -> None:
        """The lab's listener."""
        match event:
            case Planned():
                self._planned(event)
            case TrialStarted():
                description = f"block {event.spec.block + 1} · {event.spec.arm.name}"
                self.progress.update(self.task, description=description)
            case TrialEnded():
                self._trial_ended(event.trial, event.seconds)
            case PilotRead():
                self.console.print(_pilot_line(event.pilot))
            case GivenUp():
                self.console.print(
                    f"giving up on {event.arm}: it failed {event.failures} times; run it alone with"
                    f"\n  {self._rerun(event.arm)}"
                )
            case Stopped():
                if event.reason:
                    self.console.print(f"stopping here: {event.reason}")

    def interrupted(self, plan: Plan) -> None:
        """Ctrl-C: nothing is lost, and here is how to go on."""
        self.console.print(
            "interrupted; what was measured is kept. Go on with\n"
            f"  remora bench {plan.experiment} --resume {self.folder}"
        )

    # ------------------------------------------------------------ parts

    def _planned(self, event: Planned) -> None:
        first, self.plan = self.plan is None, event.plan
        if first:
            self.done_before = event.done
        self.progress.update(self.task, total=len(event.plan.trials), completed=event.done)
        arms, blocks = len(event.plan.arms), event.plan.blocks
        if first:
            within = f", within {format_seconds(self.budget_s)}" if self.budget_s else ""
            self.console.print(
                f"{event.plan.experiment}: {arms} arms × up to {blocks} blocks{within}; "
                f"results in {self.folder}"
            )
        else:
            self.console.print(f"now {blocks} blocks, {event.reason}")

    def _trial_ended(self, trial: Trial, seconds: float) -> None:
        self.seconds.append(seconds)
        self.progress.update(self.task, advance=1, left=self._left())
        if trial.failure is not None:
            self.console.print(
                f"failed: {trial.spec.arm.name} in block {trial.spec.block + 1}: "
                f"{trial.failure.message}"
                + (f" (log: {self.folder / trial.failure.log})" if trial.failure.log else "")
            )
        if self.plan is not None and trial.spec.position == len(self.plan.arms) - 1:
            self._block_ended(trial.spec.block + 1)

    def _block_ended(self, block: int) -> None:
        if not self.console.is_terminal:
            spent = format_seconds(time.monotonic() - self.began)
            self.console.print(f"block {block} done after {spent}, {self._left()}")

    def _left(self) -> str:
        """Time left, by the mean trial so far, or by the budget when that is nearer."""
        if self.plan is None or not self.seconds:
            return ""
        todo = len(self.plan.trials) - self.done_before - len(self.seconds)
        if todo <= 0:
            return "now the report"
        seconds = todo * sum(self.seconds) / len(self.seconds)
        if self.budget_s is not None:
            spent = time.monotonic() - self.began
            seconds = min(seconds, max(0.0, self.budget_s - spent))
        return f"about {format_seconds(round(seconds))} left"

    def _rerun(self, arm: str) -> str:
        experiment = self.plan.experiment if self.plan else ""
        return rerun_command(experiment, str(self.folder), arm)


def _pilot_line(pilot: Pilot) -> str:
    detected = f"{pilot.mde * 100:.1f} %" if pilot.tells else "not even a tenfold cost"
    line = (
        f"pilot: over {pilot.blocks} blocks native against native scatters by at most "
        f"{pilot.sd_log_ratio * 100:.1f} % (sd); the blocks planned detect "
        f"{detected} with {pilot.power * 100:.0f} % power"
    )
    if pilot.wanted_mde is None:
        return line
    wanted = f"{pilot.wanted_mde * 100:g} %"
    if pilot.blocks_for_wanted is None:
        return f"{line}; {wanted} is out of reach on this machine as it is now"
    return f"{line}; {wanted} needs {pilot.blocks_for_wanted} blocks"
