"""A condition says nothing twice: what a shorter conjunction covers is left out."""

from __future__ import annotations

from itertools import product

from remora.check.conditions import Condition, Constant
from remora.check.deduction import deduce

VARIABLES = [
    {"owner": "Linear", "attribute": "weight", "dimensions": 2},
    {"owner": "Linear", "attribute": "bias", "dimensions": 1},
    {"owner": "Norm", "attribute": "weight", "dimensions": 1},
    {"owner": "Norm", "attribute": "bias", "dimensions": 1},
]


def test_a_special_case_of_another_branch_is_left_out() -> None:
    """Gradients as zero_grad leaves them in a GAN: those of the other model keep theirs."""
    examples = [
        ({**variable, "own": own, "set": is_set},)
        for variable, own, is_set in product(VARIABLES, (True, False), (True, False))
    ]
    positives = [one for one in examples if one[0]["own"] or not one[0]["set"]]
    negatives = [one for one in examples if one not in positives]

    found = deduce(positives, negatives)

    assert isinstance(found, Condition)
    assert set(found.any_of) == {(Constant("own", (True,)),), (Constant("set", (False,)),)}
    assert all(found.holds(one) for one in positives)
    assert not any(found.holds(one) for one in negatives)
