"""Runs made up at random, in which enough repeats for something to be learned of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.check.stories import EVAL, TRAIN, Told

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP
from remora.check.relations.fresh import NEXT

NAMES = ("f", "g", "fill_in_", MODEL_FORWARD, OPTIMIZER_STEP, "torch.Tensor.backward")
CONTEXTS = (
    TRAIN,
    EVAL,
    {**TRAIN, "phase": "start"},
    {**TRAIN, "autocast": "torch.bfloat16"},
    {**EVAL, "autocast": "torch.bfloat16"},
)
SHAPES = ((2, 3), (4, 3), (2, 5), (7,))
PLAIN = (True, False, None, 1, 0.0, "mean", 12)


def any_run(seed: int) -> list[list[Told]]:
    """A run of up to twelve steps: a few different ones, each several times."""
    random = Random(seed)
    steps = [_step(random) for _ in range(random.randint(1, 3))]
    return [random.choice(steps) for _ in range(random.randint(1, 12))]


def _step(random: Random) -> list[Told]:
    calls = [_call(random, depth=2) for _ in range(random.randint(0, 4))]
    return calls + random.choices(calls, k=random.randint(0, 2)) if calls else []


def _call(random: Random, depth: int) -> Told:
    if depth == 2 and random.random() < 0.2:
        return _batch(random)
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


def _batch(random: Random) -> Told:
    return Told(
        NEXT,
        inputs={"self.identity": (random.randint(1, 2),)},
        outputs={"result.digest": (random.randint(1, 60),)},
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
