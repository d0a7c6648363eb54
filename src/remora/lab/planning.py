"""From a design and a request to a plan; and, after the pilot blocks, to a better one."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from remora.core.errors import BadValue, UnknownName
from remora.lab.budget import Budget
from remora.lab.design import Chosen, Design, Effort, Request
from remora.lab.environment import cores
from remora.lab.executors import EXECUTORS
from remora.lab.fitting import known_scale
from remora.lab.results import Arm, Option, Pilot, Plan, Trial, TrialSpec
from remora.lab.schedule import arms_of, schedule
from remora.lab.statistics.planning import blocks_needed, minimum_detectable_effect, planning_sd
from remora.lab.summary import again_log_ratios
from remora.systems import registry as systems
from remora.workloads import registry as workloads
from remora.workloads.devices import parse_device
from remora.workloads.fits import check_fits

PILOT_BLOCKS = 3
POWER = 0.8
MOST_BLOCKS = 1000


def make_plan(design: Design, request: Request) -> Plan:
    """The plan for ``design`` as ``request`` wants it, checked before anything runs.

    Raises:
        UnknownName: a workload, system, scale or executor that does not exist.
        BadValue: a number outside its range.
        TooLarge: a workload that cannot fit in memory here.
        Unavailable: the device asked for is not here.
    """
    scale = _scale(request.scale or design.default_scale, design)
    effort = _effort(design.efforts[scale], request)
    _check(request, effort)
    device = parse_device(request.device)
    wanted = request.workloads or design.workloads[scale]
    names = dict.fromkeys(design.aliases.get(name, name) for name in wanted)
    chosen = list({w.name: w for w in map(workloads.get, names)}.values())
    built_at = {w.name: design.workload_scale(scale, w.name) for w in chosen}
    for workload in chosen:
        if not design.skips_too_large:
            check_fits(workload, built_at[workload.name], device)
    systems_chosen = _chosen_systems(design, request, scale)
    injections = tuple(dict.fromkeys(request.inject))
    arms = [
        arm
        for w in chosen
        for arm in arms_of(
            w.name,
            [each for each in systems_chosen if each.rides(w)],
            injections,
            scale="" if built_at[w.name] == scale else built_at[w.name],
        )
    ]
    template = TrialSpec(
        id="",
        block=0,
        position=0,
        arm=arms[0],
        scale=scale,
        device=str(device),
        seed=request.seed,
        threads=request.threads,
        seconds=effort.seconds,
        min_steps=effort.min_steps,
        max_steps=effort.max_steps,
        min_periods=effort.min_periods,
        timeout_s=effort.timeout_s,
        data=request.data,
    )
    return Plan(
        experiment=design.name,
        title=design.title,
        question=design.question,
        scale=scale,
        device=str(device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tag=request.tag,
        seed=request.seed,
        threads=request.threads,
        executor=effort.executor,
        margin=_margin(design, request),
        tolerance=design.tolerance,
        budget_s=effort.budget_s,
        wanted_mde=request.mde,
        most_blocks=request.blocks,
        warm_up=design.warm_up,
        curves=list(design.curves),
        arms=arms,
        blocks=effort.blocks,
        settings={arm.label: dict(_settings(arm)) for arm in arms},
        sizes={w.name: dict(w.sizes(built_at[w.name])) for w in chosen},
        sources={w.name: w.source for w in chosen},
        trials=schedule(arms, range(effort.blocks), request.seed, template),
    )


def unavailable_arms(plan: Plan) -> dict[str, str]:
    """Arms that cannot run here, by name, with the reason, and the remedy where there is one."""
    found = {}
    for arm in plan.arms:
        system = systems.create(arm.system, arm.options)
        reason = systems.unfit(system, workloads.get(arm.workload)) or systems.missing(system)
        if reason:
            found[arm.name] = reason
    return found


def preload_modules(plan: Plan) -> tuple[str, ...]:
    """Modules that a fork server should import before it forks trials of ``plan``.

    Working out a workload's footprint builds it without data, so whatever it imports of the
    packages it names has been imported here by then.
    """
    packages: set[str] = set()
    for name, scale in {arm.workload: arm.scale or plan.scale for arm in plan.arms}.items():
        workload = workloads.get(name)
        workload.footprint(known_scale(scale))
        packages.update(workload.packages)
    return tuple(sorted(name for name in sys.modules if name.split(".")[0] in packages))


def _scale(name: str, design: Design) -> str:
    if name not in design.efforts:
        raise UnknownName(f"scale of {design.name}", name, design.efforts)
    return name


def _effort(effort: Effort, request: Request) -> Effort:
    """The design's effort with what the request changes."""
    asked = {
        "seconds": request.seconds,
        "blocks": request.blocks,
        "budget_s": request.budget_s,
        "timeout_s": request.timeout_s,
        "executor": request.executor,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    return Effort(**{**effort.__dict__, **given})


def _check(request: Request, effort: Effort) -> None:
    if effort.blocks < 1:
        raise BadValue(f"--blocks {effort.blocks} is not a number of blocks; choose 2 or more")
    for option, value in (("--budget", effort.budget_s), ("--timeout", effort.timeout_s)):
        if value is not None and value <= 0:
            raise BadValue(f"{option} {value:g} is no time to measure in; choose more than 0")
    if effort.seconds <= 0:
        raise BadValue(f"--seconds {effort.seconds:g} is not a time to measure; choose more than 0")
    if not 1 <= request.threads <= cores():
        raise BadValue(
            f"--threads {request.threads} does not suit this machine; choose 1 to {cores()}"
        )
    if effort.executor not in EXECUTORS:
        raise UnknownName("executor", effort.executor, EXECUTORS)
    if request.data is not None and not Path(request.data).exists():
        raise BadValue(f"--data {request.data} does not exist; give a folder or file that does")


def _margin(design: Design, request: Request) -> float:
    """The margin asked for, or the design's; never above the effect that is to be told."""
    margin = design.margin if request.margin is None else request.margin
    return margin if request.mde is None else min(margin, request.mde)


def _chosen_systems(design: Design, request: Request, scale: str) -> list[Chosen]:
    """What the design compares, or of it what was asked for, each with the options it takes.

    A system that is asked for but not designed runs at its defaults; the sweep goes over both.
    """
    designed = design.systems[scale]
    chosen = list(designed)
    if request.systems:
        asked = [design.aliases.get(name, name) for name in request.systems]
        rows = design.named_rows()
        chosen = [each for name in asked for each in _asked_for(name, designed, rows)]
    if wrong := next((name for name in request.options if name in design.rows_by), None):
        raise BadValue(
            f"--set {wrong}=…: rows of {design.name} are called by it; "
            f"choose among them with {design.rows_by[wrong]}"
        )
    names = list(dict.fromkeys(each.system for each in chosen))
    swept = {**design.sweep.get(scale, {}), **_asked_options(request, names)}
    found = [one for each in chosen for one in _swept(each, swept)]
    return [each for index, each in enumerate(found) if each not in found[:index]]


def _asked_for(
    name: str, designed: Sequence[Chosen], elsewhere: Mapping[str, Chosen]
) -> list[Chosen]:
    """The scale's rows of that name, or all of that system; else the row that the design has of
    that name ``elsewhere``, at another scale; else the system at its defaults.
    """
    named = [each for each in designed if each.name == name]
    if named or (rows := [each for each in designed if each.system == name]):
        return named or rows
    if name in elsewhere:
        return [elsewhere[name]]
    if name not in systems.names():
        raise UnknownName("system", name, [*elsewhere, *systems.names()])
    return [Chosen(name)]


def _asked_options(request: Request, names: Sequence[str]) -> dict[str, tuple[Option, ...]]:
    """The values of the options asked for, as whatever the systems that have them take."""
    known: dict[str, Option] = {}
    for name in names:
        known |= systems.create(name).settings()
    asked = {
        name: tuple(_read(name, value, known) for value in values)
        for name, values in request.options.items()
    }
    if request.every is not None:
        asked["every"] = (request.every,)
    if wrong := [value for value in asked.get("every", ()) if isinstance(value, int) and value < 1]:
        raise BadValue(f"--every {wrong[0]} is not an interval in steps; choose 1 or more")
    return asked


def _read(name: str, text: str, known: Mapping[str, Option]) -> Option:
    if name not in known:
        raise UnknownName("option of these systems", name, known)
    kind = type(known[name])
    try:
        return {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        like = f"{name}={known[name]}"
        raise BadValue(f"--set {name}={text} is no {kind.__name__}; write it like {like}") from None


def _swept(chosen: Chosen, sweep: Mapping[str, Sequence[Option]]) -> Iterator[Chosen]:
    """``chosen`` with every combination of those swept options that the system has."""
    settings = systems.create(chosen.system, chosen.options).settings()
    keys = [key for key in sweep if key in settings]
    for values in itertools.product(*(sweep[key] for key in keys)):
        combined = {**chosen.options, **dict(zip(keys, values, strict=True))}
        systems.create(chosen.system, combined)
        yield chosen._replace(options=combined)


def _settings(arm: Arm) -> Mapping[str, Option]:
    settings = dict(systems.create(arm.system, arm.options).settings())
    return settings | ({"inject": arm.inject} if arm.inject else {})


@dataclass(frozen=True)
class Replanner:
    """Reads the first blocks as a pilot: says what they can detect, and asks for more or fewer.

    Only the A/A noise is looked at, never an effect, so the figures stay unbiased.
    """

    pilot_blocks: int = PILOT_BLOCKS
    power: float = POWER

    def after_block(
        self, plan: Plan, blocks_done: int, trials: Sequence[Trial], budget: Budget
    ) -> Plan:
        """The plan, revised once after the pilot; the same object when there is nothing new."""
        if plan.pilot is not None or blocks_done < min(self.pilot_blocks, plan.blocks):
            return plan
        sd = planning_sd(*again_log_ratios(trials, plan.warm_up).values())
        return plan if sd is None else self._revised(plan, blocks_done, sd, budget)

    def _revised(self, plan: Plan, blocks_done: int, sd: float, budget: Budget) -> Plan:
        affordable = self._affordable(plan, blocks_done, budget)
        arms, needed = _judged_arms(plan), None
        if plan.wanted_mde is not None:
            needed = blocks_needed(
                plan.wanted_mde, sd, self.power, margin=plan.margin, level=plan.level, arms=arms
            )
        most = plan.most_blocks or MOST_BLOCKS
        blocks = max(blocks_done, min(needed or plan.blocks, affordable, most))
        pilot = Pilot(
            blocks=blocks_done,
            sd_log_ratio=sd,
            mde=minimum_detectable_effect(
                sd, max(2, blocks), self.power, margin=plan.margin, level=plan.level, arms=arms
            ),
            power=self.power,
            wanted_mde=plan.wanted_mde,
            blocks_for_wanted=needed,
        )
        return with_blocks(msgspec.structs.replace(plan, pilot=pilot), blocks)

    @staticmethod
    def _affordable(plan: Plan, blocks_done: int, budget: Budget) -> int:
        """How many blocks the budget should reach to, those done included."""
        per_block = sum(budget.expected(arm.name) for arm in plan.arms)
        if budget.seconds is None or per_block <= 0:
            return MOST_BLOCKS
        return blocks_done + max(0, int(budget.left / per_block))


def _judged_arms(plan: Plan) -> int:
    """Arms that share one table, and so its level."""
    counts = Counter(arm.workload for arm in plan.arms if arm.role in ("system", "injected"))
    return max(counts.values(), default=1)


def with_timeout(plan: Plan, timeout_s: float) -> Plan:
    """The plan with another limit for each trial."""
    trials = [msgspec.structs.replace(spec, timeout_s=timeout_s) for spec in plan.trials]
    return msgspec.structs.replace(plan, trials=trials)


def with_blocks(plan: Plan, blocks: int) -> Plan:
    """The plan with so many blocks: cut, or continued by the same seed."""
    if blocks <= plan.blocks:
        kept = [spec for spec in plan.trials if spec.block < blocks]
        return msgspec.structs.replace(plan, blocks=blocks, trials=kept)
    more = schedule(plan.arms, range(plan.blocks, blocks), plan.seed, plan.trials[0])
    return msgspec.structs.replace(plan, blocks=blocks, trials=[*plan.trials, *more])
