"""Run a plan, trial by trial, each durable before the next begins (rules 2 and 12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from remora.core.clock import Clock, SystemClock
from remora.core.errors import ResultsUnusable, UnknownName
from remora.lab import environment
from remora.lab.budget import Budget
from remora.lab.events import (
    GivenUp,
    Listener,
    PilotRead,
    Planned,
    Stopped,
    TrialEnded,
    TrialStarted,
    ignore,
)
from remora.lab.folder import Folder
from remora.lab.planning import Replanner, with_blocks
from remora.lab.results import EnvironmentPair, Plan, Trial, TrialSpec
from remora.lab.trial_runner import TrialRunner

GIVE_UP_AFTER = 2
"""An arm that failed so often in this folder and never succeeded is tried again only by name."""
BUDGET_SPENT = "the time budget is spent"
NOTHING_WORKS = "no arm worked in the first block"


class Attempts:
    """Which arms keep failing."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._failed: Counter[str] = Counter()
        self._succeeded: set[str] = set()
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        if trial.failure is None:
            self._succeeded.add(trial.spec.arm.name)
        else:
            self._failed[trial.spec.arm.name] += 1

    @property
    def any_succeeded(self) -> bool:
        return bool(self._succeeded)

    def hopeless(self, arm: str) -> bool:
        return arm not in self._succeeded and self._failed[arm] >= GIVE_UP_AFTER


@dataclass
class Conductor:
    """Runs what a results folder still lacks."""

    folder: Folder
    runner: TrialRunner
    listener: Listener = ignore
    clock: Clock = field(default_factory=SystemClock)
    replanner: Replanner | None = None

    def run(self, budget_s: float | None = None, only: Sequence[str] = ()) -> Plan:
        """Run the missing trials within ``budget_s`` seconds and return the plan as revised.

        With ``only``, no other arms than these are run, and their failed trials run again.

        Raises:
            UnknownName: ``only`` names an arm the plan does not have.
            ResultsUnusable: the folder is in use, or was measured under other conditions.
        """
        with self.folder.locked():
            plan = self.folder.plan()
            _check_arms(plan, only)
            self._record_before(plan)
            try:
                return _Run(self, plan, Budget(self.clock, budget_s), only).to_the_end()
            finally:
                self._record_after(plan)

    def _record_before(self, plan: Plan) -> None:
        """The first run's "before" stays; going on under other conditions is refused."""
        now = environment.capture(plan.threads, plan.device)
        if not self.folder.has_environment():
            self.folder.write_environment(EnvironmentPair(before=now))
            return
        if found := environment.changes(self.folder.environment().before, now):
            raise ResultsUnusable(
                f"{self.folder.path} was measured under other conditions ({'; '.join(found)}); "
                "start a new folder with --out"
            )

    def _record_after(self, plan: Plan) -> None:
        before = self.folder.environment().before
        after = environment.capture(plan.threads, plan.device)
        self.folder.write_environment(EnvironmentPair(before=before, after=after))


class _Run:
    """The state of one run of a conductor."""

    def __init__(
        self, conductor: Conductor, plan: Plan, budget: Budget, only: Sequence[str]
    ) -> None:
        self.conductor, self.plan, self.budget, self.only = conductor, plan, budget, only
        self.done = self._trials_that_stand()
        self.attempts = Attempts(self.done.values())

    def to_the_end(self) -> Plan:
        tell = self.conductor.listener
        tell(Planned(self.plan, len(self.done)))
        block = 0
        while block < self.plan.blocks:
            if not self._run_block(block):
                self._trim(block)
                tell(Stopped(BUDGET_SPENT))
                return self.plan
            block += 1
            if not self.attempts.any_succeeded:
                tell(Stopped(NOTHING_WORKS))
                return self.plan
            self._revise(block)
        tell(Stopped(""))
        return self.plan

    def _run_block(self, block: int) -> bool:
        """Run what the block lacks; False when the budget does not reach to its end."""
        specs = [spec for spec in self.plan.trials if spec.block == block and self._wanted(spec)]
        if specs and not self.budget.allows([spec.arm.name for spec in specs]):
            return False
        return all(self.budget.allows([spec.arm.name]) and self._run_trial(spec) for spec in specs)

    def _run_trial(self, spec: TrialSpec) -> bool:
        """Run one trial; False when the budget cut it short, which says nothing of the arm."""
        tell, clock = self.conductor.listener, self.conductor.clock
        tell(TrialStarted(spec))
        runner, limit_s = self.conductor.runner, self.budget.timeout(spec.timeout_s)
        unprepared = runner.prepare(spec, limit_s)
        began_ns = clock.wall_ns()
        trial = unprepared or runner.run(spec, limit_s)
        if limit_s < spec.timeout_s and trial.failure and trial.failure.kind == "timed-out":
            self.conductor.folder.discard_trial(spec.id)
            return False
        seconds = (clock.wall_ns() - began_ns) / 1e9
        self.done[spec.id] = trial
        self.budget.took(spec.arm.name, seconds)
        self._count(trial)
        tell(TrialEnded(trial, seconds))
        return True

    def _count(self, trial: Trial) -> None:
        arm = trial.spec.arm.name
        hopeless_before = self.attempts.hopeless(arm)
        self.attempts.add(trial)
        if self.attempts.hopeless(arm) and not hopeless_before:
            self.conductor.listener(GivenUp(arm, GIVE_UP_AFTER))

    def _wanted(self, spec: TrialSpec) -> bool:
        if spec.id in self.done:
            return False
        if self.only:
            return spec.arm.name in self.only
        return not self.attempts.hopeless(spec.arm.name)

    def _trials_that_stand(self) -> dict[str, Trial]:
        """Trials on disk; with ``only``, failed ones of those arms are to be run again."""
        trials, _ = self.conductor.folder.trials()
        planned = {spec.id for spec in self.plan.trials}
        again = {t.spec.id for t in trials if t.failure and t.spec.arm.name in self.only}
        return {t.spec.id: t for t in trials if t.spec.id in planned - again}

    def _revise(self, blocks_done: int) -> None:
        """Let the pilot have its say once a block is whole."""
        replanner = self.conductor.replanner
        if replanner is None or self.only:
            return
        revised = replanner.after_block(
            self.plan, blocks_done, list(self.done.values()), self.budget
        )
        if revised is self.plan:
            return
        self.conductor.folder.write_plan(revised)
        changed = revised.blocks != self.plan.blocks
        self.plan = revised
        if revised.pilot is not None:
            self.conductor.listener(PilotRead(revised.pilot))
        if changed:
            self.conductor.listener(Planned(revised, len(self.done), "after the pilot"))

    def _trim(self, block: int) -> None:
        """Blocks the budget did not reach are no longer planned; a block begun stays, whole."""
        begun = {spec.block for spec in self.plan.trials if spec.id in self.done}
        if self.only or not begun:
            return
        self.plan = with_blocks(self.plan, max(block, *(each + 1 for each in begun)))
        self.conductor.folder.write_plan(self.plan)


def _check_arms(plan: Plan, only: Sequence[str]) -> None:
    valid = [arm.name for arm in plan.arms]
    for name in only:
        if name not in valid:
            raise UnknownName("arm", name, valid)
