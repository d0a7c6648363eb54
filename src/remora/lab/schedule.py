"""Who runs when: blocks of one trial an arm, each block in an order of its own (rule 2)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import msgspec

from remora.lab.results import Arm, Option, TrialSpec

NATIVE = "native"
AGAIN = "native (again)"


def arms_of(
    workload: str, systems: Sequence[tuple[str, dict[str, Option]]], injections: Sequence[float]
) -> list[Arm]:
    """The arms of one workload: native, native again (A/A), known injections, then systems."""
    arms = [
        Arm(workload=workload, system=NATIVE, label=NATIVE, role="baseline"),
        Arm(workload=workload, system=NATIVE, label=AGAIN, role="again"),
    ]
    arms += [
        Arm(
            workload=workload,
            system=NATIVE,
            label=f"native +{share * 100:g}%",
            role="injected",
            inject=share,
        )
        for share in injections
    ]
    for label, (system, options) in zip(labels(systems), systems, strict=True):
        if system != NATIVE:
            arms.append(
                Arm(workload=workload, system=system, label=label, role="system", options=options)
            )
    return arms


def labels(systems: Sequence[tuple[str, dict[str, Option]]]) -> list[str]:
    """A label for each: the system's name, and those options in which its entries differ.

    >>> labels([("idle", {}), ("torch-save", {"every": 1}), ("torch-save", {"every": 5})])
    ['idle', 'torch-save every=1', 'torch-save every=5']
    """
    entries: dict[str, list[dict[str, Option]]] = {}
    for system, options in systems:
        entries.setdefault(system, []).append(options)
    differing = {
        system: [
            key
            for key in dict.fromkeys(key for options in several for key in options)
            if any(options.get(key) != several[0].get(key) for options in several)
        ]
        for system, several in entries.items()
    }
    return [
        " ".join([system, *(f"{k}={options[k]}" for k in differing[system] if k in options)])
        for system, options in systems
    ]


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
