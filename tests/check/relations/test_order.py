"""Lead and cover: what goes missing from a loop is missed at the step where it is missing."""

from __future__ import annotations

import pytest
from tests.check.stories import EVAL, Told, checked, learned, said

ZERO, FORWARD = "torch.optim.Optimizer.zero_grad", "torch.nn.Module.forward"
BACKWARD, STEP = "torch.Tensor.backward", "torch.optim.Optimizer.step"
HEALTHY = [ZERO, FORWARD, BACKWARD, STEP]


@pytest.mark.parametrize("missing", HEALTHY)
def test_a_missing_part_of_a_step_is_found_in_that_step(missing: str) -> None:
    invariants = learned([HEALTHY] * 5)
    broken = [*[HEALTHY] * 3, [name for name in HEALTHY if name != missing], HEALTHY]

    findings = checked(invariants, broken)

    assert {one.step for one in findings} <= {3, 4}
    assert min(one.step for one in findings) == (3 if missing != STEP else 4)
    assert checked(invariants, [HEALTHY] * 9) == []


def test_what_is_missed_is_said_of_the_first_call_and_of_later_ones() -> None:
    """GIVEN zero_grad before every step WHEN it is lost THEN it is said since when."""
    found = checked(learned([HEALTHY] * 5), [HEALTHY[1:]] * 2)

    seen = [one.seen for one in found if one.invariant.claim.words().startswith(BACKWARD)]
    assert seen[0] == f"no call of {ZERO} before it"
    assert f"no call of {ZERO} since the last call of {BACKWARD}" in seen


def test_what_evaluation_does_is_told_from_training() -> None:
    healthy: list[Told | str] = [*HEALTHY]
    evaluation: list[Told | str] = [Told(FORWARD, context=EVAL), Told(FORWARD, context=EVAL)]
    steps: list[list[Told | str]] = [healthy, healthy, [*healthy, *evaluation]]
    invariants = learned(steps * 3)

    assert f"{FORWARD} is called only after {ZERO}, each time anew when phase is 'train' and " \
        "grad is True" in said(invariants, "cover")  # fmt: skip
    assert checked(invariants, [HEALTHY, [*HEALTHY, *evaluation * 3], HEALTHY]) == []
    [first, *_] = checked(invariants, [HEALTHY, [FORWARD, BACKWARD, STEP]])
    assert first.step == 1


def test_threads_do_not_lead_one_another() -> None:
    alone = [["a", "b"]] * 4
    elsewhere: list[list[Told | str]] = [["a", Told("b", thread=2)]] * 4

    assert said(learned(alone), "lead") == {
        "a is followed by b before it is called again",
        "b is followed by a before it is called again",
    }
    assert said(learned(elsewhere), "lead") == set()


def test_what_is_called_within_another_is_not_led_by_it() -> None:
    assert said(learned([[Told("a", ["b"])]] * 5), "lead") == set()
    assert said(learned([[Told("a", ["b"])]] * 5), "cover") == set()


def test_a_loop_of_its_own_leads_nothing() -> None:
    assert said(learned([["a"] * 6 + ["b"]] * 4), "lead") == set()


def test_two_runs_do_not_follow_one_another() -> None:
    once = [["start", "a", "b"], ["a", "b"], ["a", "b"]]

    assert "start" not in " ".join(said(learned(once, once, once, fewest=1), "lead"))


def test_of_those_equally_near_the_choice_is_the_same_in_every_process() -> None:
    """Sets of names have another order in each."""
    for first, second in ("xy", "pq", "gh", "kl", "uv", "bc", "mn", "de"):
        turns = [["a", first, second], ["a", second, first]] * 4 + [["a"]]
        leads = {one for one in said(learned(turns), "lead") if one.startswith("a is")}
        assert leads == {f"a is followed by {min(first, second)} before it is called again"}


def test_the_same_run_is_told_in_the_same_order() -> None:
    words = [one.words() for one in learned([[Told("a", [*"qwertyuiop"])]] * 4)]
    contained = [one for one in words if one.startswith("a calls")]
    assert contained == sorted(contained)
    assert len(contained) == 10
