"""Runs made up at random, in which enough repeats for something to be learned of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from tests.check.stories import EVAL, TRAIN, Told

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP
from remora.check.measures import AMOUNTS, COUNTERS, ELEMENTS, SCALER_UPDATE, SCHEDULER_STEP
from remora.check.relations.fresh import NEXT
from remora.check.relations.periodic import BACKWARD, LOADER

COUNTED = (OPTIMIZER_STEP, OPTIMIZER_STEP, BACKWARD, SCHEDULER_STEP, LOADER, SCALER_UPDATE)
NAMES = ("f", "g", "fill_in_", MODEL_FORWARD)
CONTEXTS = (
    TRAIN,
    EVAL,
    {**TRAIN, "phase": "start"},
    {**TRAIN, "autocast": "torch.bfloat16"},
    {**EVAL, "autocast": "torch.bfloat16"},
    {**TRAIN, "warm_up": True},
    {**TRAIN, "warm_up": False},
)
SHAPES = ((2, 3), (4, 3), (2, 5), (7,))
PLAIN = (True, False, None, 1, 0.0, "mean", 12)


def any_run(seed: int) -> list[list[Told]]:
    """A run of up to twelve steps: a few different ones, each several times."""
    random = Random(seed)
    steps = [_step(random) for _ in range(random.randint(1, 3))]
    run = [random.choice(steps) for _ in range(random.randint(1, 12))]
    return _with_contents(random, run) if random.random() < 0.5 else run


def _with_contents(random: Random, run: list[list[Told]]) -> list[list[Told]]:
    """Variables that change every few steps, as a rule, and are not there at times."""
    every = {name: random.choice((1, 2, 3, 50)) for name in ("net.a", "net.b", "copy.a", "copy.b")}
    slip = random.choice((0.0, 0.0, 0.1))
    told = []
    for number, step in enumerate(run):
        contents = {
            name: (number + (random.random() < slip)) // period
            for name, period in every.items()
            if random.random() >= slip
        }
        told.append([*step, Told("end", contents=contents)])
    return told


def _step(random: Random) -> list[Told]:
    if random.random() < 0.3:
        return _training(random)
    calls = [_call(random, depth=2) for _ in range(random.randint(0, 4))]
    return calls + random.choices(calls, k=random.randint(0, 2)) if calls else []


def _call(random: Random, depth: int) -> Told:
    if depth == 2 and random.random() < 0.2:
        return _batch(random)
    if random.random() < 0.3:
        return _of_a_step(random)
    names = random.sample(["x", "y", "max_size", "training"], k=random.randint(0, 3))
    inputs = {key: value for name in names for key, value in _value(random, name).items()}
    return Told(
        random.choice(NAMES),
        within=[_call(random, depth - 1) for _ in range(random.randint(0, depth))],
        inputs=inputs,
        outputs=_value(random, "result"),
        context=random.choice(CONTEXTS),
        failed=random.random() < 0.1,
        thread=random.randint(1, 2),
    )


def _training(random: Random) -> list[Told]:
    """A few iterations that are alike, as a rule."""
    size = random.choice((0.01, 0.5, 3.0, 1e4))
    passes = random.choice((1, 2, 3))
    iterations = [
        [*[Told(BACKWARD)] * (passes - (random.random() < 0.05)), _optimizer(random, size)]
        for _ in range(random.randint(1, 5))
    ]
    return [one for iteration in iterations for one in iteration]


def _optimizer(random: Random, size: float) -> Told:
    numbers = {name: size * random.uniform(0.5, 2) for name in AMOUNTS[OPTIMIZER_STEP]}
    context = random.choice((TRAIN, TRAIN, {**TRAIN, "warm_up": True}))
    return Told(OPTIMIZER_STEP, inputs={ELEMENTS: 7}, context=context, numbers=numbers)


def _of_a_step(random: Random) -> Told:
    """A call that counts or is measured. A number is nearly the same each time, or anything."""
    name = random.choice(COUNTED)
    amount = random.choice((0.0, 1e-9, 0.5, 0.6, 1.0, 2.0, 1e6, math.inf, math.nan))
    names = (*AMOUNTS.get(name, ()), "gradient norm of net", "loss of f")
    numbers = {one: amount for one in names if random.random() < 0.7}
    if name in COUNTERS and random.random() < 0.8:
        numbers[COUNTERS[name]] = random.choice((0.0, 1.0, 1.0, 2.0, -3.0))
    return Told(
        name,
        inputs={ELEMENTS: random.choice((7, 7, 20))} if name == OPTIMIZER_STEP else {},
        context=random.choice(CONTEXTS),
        numbers=numbers,
    )


def _batch(random: Random) -> Told:
    due = random.choice([4, 3])
    return Told(
        NEXT,
        inputs={
            "self.identity": (random.randint(1, 2),),
            "self.collate": random.choice(["stack", "pad"]),
            "self.rows_due": due,
        },
        outputs={
            "result.digest": (random.randint(1, 60),),
            "result.rows": due if random.random() < 0.9 else 2,
        },
        failed=random.random() < 0.1,
    )


def _value(random: Random, name: str) -> dict[str, Any]:
    kinds: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: _tensor(random, name),
        lambda: {name: random.choice(PLAIN)},
        lambda: {name: random.randint(0, 40)},
        dict,
    )
    return random.choice(kinds)()


def _tensor(random: Random, name: str) -> dict[str, Any]:
    shape = random.choice(SHAPES)
    return {
        f"{name}.kind": "torch.Tensor",
        f"{name}.dtype": random.choice(["torch.float32", "torch.bfloat16"]),
        f"{name}.shape": shape,
        f"{name}.ndim": len(shape),
        f"{name}.requires_grad": random.random() < 0.5,
        f"{name}.identity": (random.randint(1, 8),),
    }
