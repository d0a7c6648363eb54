"""Who runs when: blocks of one trial an arm, each block in an order of its own (rule 2)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from remora.lab.design import Chosen
from remora.lab.results import Arm, Option, TrialSpec

NATIVE = "native"
AGAIN = "native (again)"


def arms_of(
    workload: str,
    systems: Sequence[Chosen],
    injections: Sequence[float],
    scale: str = "",
) -> list[Arm]:
    """The arms of one workload: native, native again (A/A), known injections, then systems."""
    made = partial(Arm, workload=workload, scale=scale)
    arms = [
        made(system=NATIVE, label=NATIVE, role="baseline"),
        made(system=NATIVE, label=AGAIN, role="again"),
    ]
    arms += [
        made(system=NATIVE, label=f"native +{share * 100:g}%", role="injected", inject=share)
        for share in injections
    ]
    for label, chosen in zip(labels(systems), systems, strict=True):
        if chosen.system != NATIVE:
            arm = made(system=chosen.system, label=label, role="system")
            options, most = dict(chosen.options), chosen.most_steps
            arms.append(msgspec.structs.replace(arm, options=options, most_steps=most))
    return arms


def labels(systems: Sequence[Chosen]) -> list[str]:
    """A label for each: its name or the system's, and those options in which its entries differ.

    >>> labels([Chosen("idle"), Chosen("torch-save", {"every": 1}), Chosen("torch-save")])
    ['idle', 'torch-save every=1', 'torch-save']
    >>> labels([Chosen("remote", {"graph": False}, "naive"), Chosen("remote", name="full")])
    ['naive', 'full']
    """
    entries: dict[str, list[Mapping[str, Option]]] = {}
    for chosen in systems:
        entries.setdefault(chosen.name or chosen.system, []).append(chosen.options)
    differing = {
        called: [
            key
            for key in dict.fromkeys(key for options in several for key in options)
            if any(options.get(key) != several[0].get(key) for options in several)
        ]
        for called, several in entries.items()
    }
    return [_label(each, differing[each.name or each.system]) for each in systems]


def _label(chosen: Chosen, told_by: Sequence[str]) -> str:
    options = chosen.options
    told = (f"{key}={options[key]}" for key in told_by if key in options)
    return " ".join([chosen.name or chosen.system, *told])


def block_order(arms: Sequence[Arm], block: int, seed: int) -> list[Arm]:
    """The arms of block ``block`` in its random order: a function of the seed alone.

    Arms are compared within a workload only, so a workload's arms run one after another: what is
    compared lies close in time, and a machine that drifts over minutes disturbs it less. Workloads
    come in random order, and so do the arms of each.
    """
    rng = random.Random(f"{seed}/{block}")
    workloads = list(dict.fromkeys(arm.workload for arm in arms))
    rng.shuffle(workloads)
    order = []
    for workload in workloads:
        mine = [arm for arm in arms if arm.workload == workload]
        rng.shuffle(mine)
        order += mine
    return order


def trial_id(block: int, position: int, arm: Arm) -> str:
    """A trial's name, and the name of its file: ``b02-05-gpt2-train-torch-save``."""
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{arm.workload}-{arm.label}".lower()).strip("-")
    return f"b{block:02d}-{position:02d}-{slug}"


def schedule(arms: Sequence[Arm], blocks: range, seed: int, template: TrialSpec) -> list[TrialSpec]:
    """The trials of ``blocks`` in running order; ``template`` gives all but place and arm."""
    return [
        msgspec.structs.replace(
            template, id=trial_id(block, position, arm), block=block, position=position, arm=arm
        )
        for block in blocks
        for position, arm in enumerate(block_order(arms, block, seed))
    ]
