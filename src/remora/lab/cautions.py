"""What a reader must know before believing a table: said aloud, never hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from remora.lab import environment as environments
from remora.lab.results import Cell, EnvironmentPair, NoiseFloor, Plan, Trial
from remora.lab.summary import Measured

FEW_BLOCKS = 5
STEAL_SHARE = 0.02
DRAIN_SHARE = 0.02
APART = timedelta(hours=1)


def of(
    plan: Plan,
    environment: EnvironmentPair,
    trials: Sequence[Trial],
    cells: Sequence[Cell],
    noise: Sequence[NoiseFloor],
) -> list[str]:
    """Every caution that applies, as sentences."""
    return [
        *_about_completeness(plan, trials),
        *_about_arms(cells),
        *_about_settling(cells),
        *_about_drains(plan, trials),
        *_about_noise(noise),
        *_about_machine(environment, trials),
    ]


def complete(plan: Plan, trials: Sequence[Trial]) -> bool:
    """Whether every planned trial has run, well or badly, or its arm was given up."""
    ran = {trial.spec.id for trial in trials}
    hopeless = {
        arm.name
        for arm in plan.arms
        if any(t.failure for t in trials if t.spec.arm.name == arm.name)
        and not any(t.failure is None for t in trials if t.spec.arm.name == arm.name)
    }
    return all(spec.id in ran or spec.arm.name in hopeless for spec in plan.trials)


def _about_completeness(plan: Plan, trials: Sequence[Trial]) -> Iterator[str]:
    if not complete(plan, trials):
        yield f"this run is not finished: {len(trials)} of {len(plan.trials)} trials are here"
    if plan.blocks < FEW_BLOCKS:
        few = "1 block is" if plan.blocks == 1 else f"{plan.blocks} blocks are"
        yield (
            f"{few} few: intervals are wide and only large effects can be told; "
            f"raise --budget or --blocks to {FEW_BLOCKS} or more"
        )


def _about_arms(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        if cell.failures:
            reason = next(iter(cell.failures.values())).message
            yield f"{cell.arm.name}: {len(cell.failures)} trials failed ({reason})"


def _about_settling(cells: Sequence[Cell]) -> Iterator[str]:
    """Of arms whose trials make few steps on purpose none can settle, and that is said apart."""
    free = [cell for cell in cells if cell.arm.most_steps is None]
    unsettled = sum(len(cell.unsettled) for cell in free)
    if unsettled:
        yield (
            f"{unsettled} of {sum(len(cell.trials) for cell in free)} trials never reached a "
            "steady state; their second half was used, and the tables say which arms they are of"
        )
    few = {(cell.arm.label, cell.arm.most_steps) for cell in cells if cell.arm.most_steps}
    if few:
        most = ", ".join(f"{label} {steps}" for label, steps in sorted(few))
        yield (
            "a step of some rows takes so long that their trials make few, in which no warm-up "
            f"can be told: at most {most}; the later half is counted, and of a single one all"
        )


def _about_drains(plan: Plan, trials: Sequence[Trial]) -> Iterator[str]:
    measured = [m for trial in trials if (m := Measured.of(trial, plan.warm_up)) is not None]
    longest = max(measured, key=lambda each: each.drain_share, default=None)
    if longest is not None and longest.drain_share > DRAIN_SHARE:
        yield (
            "waiting for pending work at a trial's end counts, and takes up to "
            f"{longest.drain_share * 100:.0f} % of the time measured "
            f"({longest.trial.spec.arm.name}); longer trials (--seconds) spread it over more steps"
        )


def _about_noise(noise: Sequence[NoiseFloor]) -> Iterator[str]:
    for each in noise:
        if not each.interval.low <= 1 <= each.interval.high:
            yield (
                f"{each.workload}: native differs from itself "
                f"({each.interval.low:.3f} to {each.interval.high:.3f} ×); the machine was not "
                "steady, or this is the one time in twenty"
            )


def _about_machine(environment: EnvironmentPair, trials: Sequence[Trial]) -> Iterator[str]:
    if apart := _blocks_run_apart(trials):
        yield (
            f"{apart} blocks hold trials run more than an hour apart (a resumed run): their ratios "
            "may compare the machine of one hour with that of another"
        )
    steals = [trial.steal_share for trial in trials if trial.steal_share is not None]
    if steals and max(steals) > STEAL_SHARE:
        stolen = sum(steal > STEAL_SHARE for steal in steals)
        yield (
            f"other machines on this host took more than {STEAL_SHARE * 100:.0f} % of the CPU in "
            f"{stolen} of {len(trials)} trials (most: {max(steals) * 100:.0f} %)"
        )
    if environment.after is not None:
        changed = environments.differences(environment.before, environment.after)
        if changed:
            yield f"the machine changed during the run: {'; '.join(changed)}"


def _blocks_run_apart(trials: Sequence[Trial]) -> int:
    """How many blocks were not run in one go."""
    started: dict[int, list[datetime]] = {}
    for trial in trials:
        started.setdefault(trial.spec.block, []).append(datetime.fromisoformat(trial.started))
    return sum(max(times) - min(times) > APART for times in started.values())
