"""``remora bench``: run an experiment and write its report."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.core.errors import BadValue
from remora.core.units import parse_fraction, parse_seconds

if TYPE_CHECKING:
    from remora.lab.design import Design, Request
    from remora.lab.folder import Folder
    from remora.lab.results import Analysis

INTERRUPTED = 130


def bench(
    experiment: Annotated[
        str,
        typer.Argument(
            help="Which experiment; `remora list experiments` shows them, their scales and rows."
        ),
    ],
    scale: Annotated[
        str | None,
        typer.Option(help="quick, standard or paper; of some also validate, each row once, small."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu (the default), cuda or cuda:0.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: a new one below here).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this results folder instead of a new one.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="With --resume: run only this arm (workload/system), failed ones again."),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(help="This workload instead of the experiment's own; may come again."),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="This system, or row of the experiment, instead of all; may come again."),
    ] = None,
    blocks: Annotated[int | None, typer.Option(help="At most this many blocks.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for the trials, such as 10m; it is kept.")
    ] = None,
    mde: Annotated[
        str | None,
        typer.Option(help="Smallest effect to tell from none, such as 2%; sets the blocks."),
    ] = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(help="Add an arm with a known overhead, such as 5%, to check the lab."),
    ] = None,
    every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    load: Annotated[
        list[float] | None,
        typer.Option(help="Of isolation: requests over what could be served; may come again."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Of isolation: this policy instead of its own; may come again."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Of isolation: SERVES:TRAINS,…, such as bert:resnet50,gpt2:bert."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE[,VALUE…]", help="Run systems at these values."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of stepping in each trial.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="A trial that takes longer is killed, such as 5m.")
    ] = None,
    margin: Annotated[
        str | None, typer.Option(help="Overheads within this count as no cost, such as 5%.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each trial (default 1).")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, data and order (default 0).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with experiment, workloads and baselines.")
    ] = None,
    workloads: Annotated[
        str | None, typer.Option(help="Several workloads at once: NAME,NAME.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="A word that is kept with the results, and in their name.")
    ] = None,
    latest_only: Annotated[
        bool, typer.Option("--latest-only", help="Of a table over runs, only this run.")
    ] = False,
    executor: Annotated[
        str | None, typer.Option(help="spawn, forkserver or in-process (to debug).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A local dataset instead of the synthetic one.")
    ] = None,
) -> None:
    """Run an experiment, block by block, and write its report.

    Results go to a folder of their own. A run that is killed or interrupted goes on with
    --resume FOLDER and loses at most the trial in flight. Exit code 1 when nothing was measured
    of some arm.
    """
    from remora.lab.packages import require_lab_packages

    require_lab_packages()
    from remora.experiments import registry
    from remora.experiments.isolation import tailored
    from remora.lab.design import Request

    if resume is not None:
        _refuse_with_resume(
            scale=scale, device=device, out=out, workload=workload, system=system, mde=mde,
            inject=inject, every=every, set=option, seconds=seconds, margin=margin, threads=threads,
            seed=seed, data=data, config=config, workloads=workloads, tag=tag, load=load,
            pairs=pairs, policy=policy,
        )  # fmt: skip
    design = tailored(
        registry.get(experiment),
        load or (),
        pairs or "",
        policy or (),
        (device or "cpu").partition(":")[0],
    )
    chosen_workloads, chosen_systems = _chosen(
        design, config, [*(workload or ()), *(workloads or "").split(",")], system or []
    )
    request = Request(
        scale=scale,
        device=device or "cpu",
        workloads=chosen_workloads,
        systems=chosen_systems,
        blocks=blocks,
        seconds=seconds,
        budget_s=parse_seconds(budget) if budget else None,
        timeout_s=parse_seconds(timeout) if timeout else None,
        mde=parse_fraction(mde) if mde else None,
        inject=tuple(parse_fraction(each) for each in inject or ()),
        every=every,
        options=_options(option or ()),
        threads=1 if threads is None else threads,
        seed=seed or 0,
        margin=parse_fraction(margin) if margin else None,
        executor=executor,
        data=str(data.resolve()) if data else None,
        tag=_tag(tag or ""),
    )
    if resume is None and only:
        raise BadValue("--only goes with --resume FOLDER; to choose arms use --workload, --system")
    if resume is not None:
        folder = _reopen(resume, design, request)
    else:
        folder = _begin(design, request, out)
    _conduct(folder, request, only or [], latest_only=latest_only)


def _chosen(
    design: Design, config: Path | None, workloads: Sequence[str], systems: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Workloads and systems asked for; what the options leave open, the configuration says."""
    named = tuple(name.strip() for name in workloads if name.strip())
    if config is None:
        return named, tuple(systems)
    from remora.experiments.suite_config import read_config

    read = read_config(config, design)
    return named or read.workloads, tuple(systems) or read.baselines


def _tag(tag: str) -> str:
    if tag and not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", tag):
        raise BadValue(f"--tag {tag!r} is no word for a folder's name; use letters, digits, . _ -")
    return tag


def _options(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``every=1,5`` as a name and its values."""
    pairs = [each.partition("=") for each in given]
    for name, equals, values in pairs:
        if not (name and equals and values):
            raise BadValue(f"--set {name}{equals}{values}: write NAME=VALUE, such as --set every=5")
    return {name: tuple(values.split(",")) for name, _, values in pairs}


def _begin(design: Design, request: Request, out: Path | None) -> Folder:
    from remora.lab.folder import Folder
    from remora.lab.planning import make_plan

    plan = make_plan(design, request)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = "-".join(part for part in (design.name, request.tag, stamp) if part)
    return Folder.create(out or Path("remora-results") / name, plan)


def _refuse_with_resume(**options: object) -> None:
    """What a folder was begun with cannot be changed half-way."""
    given = [f"--{name}" for name, value in options.items() if value not in (None, [])]
    if given:
        raise BadValue(
            f"{', '.join(given)} cannot change a run that was begun otherwise; with --resume go "
            "--only, --budget, --blocks, --timeout and --executor"
        )


def _reopen(path: Path, design: Design, request: Request) -> Folder:
    from remora.lab.folder import Folder
    from remora.lab.planning import with_blocks, with_timeout

    folder = Folder.open(path)
    with folder.locked():
        plan = folder.plan()
        if plan.experiment != design.name:
            raise BadValue(
                f"{path} holds the experiment {plan.experiment!r}; "
                f"resume it with: remora bench {plan.experiment} --resume {path}"
            )
        if request.blocks is not None and request.blocks > plan.blocks:
            plan = with_blocks(plan, request.blocks)
        if request.timeout_s is not None:
            plan = with_timeout(plan, request.timeout_s)
        if plan != folder.plan():
            folder.write_plan(plan)
    return folder


def _conduct(folder: Folder, request: Request, only: list[str], *, latest_only: bool) -> None:
    from remora.cli.progress import Screen
    from remora.lab import executors
    from remora.lab.conduct import Conductor
    from remora.lab.fitting import too_large
    from remora.lab.planning import Replanner, preload_modules, unavailable_arms
    from remora.lab.trial_runner import TrialRunner

    plan = folder.plan()
    budget_s = request.budget_s if request.budget_s is not None else plan.budget_s
    executor = executors.create(
        request.executor or plan.executor, threads=plan.threads, preload=preload_modules(plan)
    )
    runner = TrialRunner(folder, executor, unavailable_arms(plan), too_large(plan))
    with Screen(folder.path, budget_s) as screen:
        conductor = Conductor(folder, runner, screen.on_event, replanner=Replanner())
        try:
            plan = conductor.run(budget_s, only)
        except KeyboardInterrupt:
            screen.interrupted(plan)
            raise typer.Exit(INTERRUPTED) from None
        finally:
            executor.close()
    _report(folder, latest_only=latest_only)


def _report(folder: Folder, *, latest_only: bool) -> None:
    from remora.cli.report import write_report
    from remora.experiments import registry

    analysis = write_report(folder)
    own = registry.write_own_table(analysis.plan.experiment, folder, latest_only=latest_only)
    if own is not None:
        print(f"table: {own}")
    broken = registry.broken_promises(analysis.plan.experiment, analysis)
    for sentence in broken:
        print(f"remora: this run cannot be believed: {sentence}", file=sys.stderr)
    nothing = [cell.arm.name for cell in analysis.cells if not cell.trials]
    if nothing:
        print(f"remora: nothing was measured of {', '.join(nothing)}", file=sys.stderr)
    left_out = _left_out(analysis) if len(nothing) < len(analysis.cells) else set()
    if set(nothing) - left_out or broken:
        raise typer.Exit(1)


def _left_out(analysis: Analysis) -> set[str]:
    """What was known beforehand not to fit, where an experiment does without that."""
    from remora.experiments import registry

    if not registry.get(analysis.plan.experiment).skips_too_large:
        return set()
    return {
        cell.arm.name
        for cell in analysis.cells
        if any(each.kind == "too-large" for each in cell.failures.values())
    }
