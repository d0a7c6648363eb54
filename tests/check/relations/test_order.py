"""Lead and cover: what goes missing from a loop is missed at the step where it is missing."""

from __future__ import annotations

import pytest
import torch
from tests.check.rides import found_in, learned_from, of
from tests.check.stories import EVAL, Told, checked, learned, said

ZERO, FORWARD = "torch.optim.Optimizer.zero_grad", "torch.nn.Module.forward"
BACKWARD, STEP = "torch.Tensor.backward", "torch.optim.Optimizer.step"
MADE, MODEL_ZERO = "torch.optim.Optimizer.add_param_group", "torch.nn.Module.zero_grad"
EVALUATE, LOAD = "torch.nn.Module.eval", "torch.nn.Module.load_state_dict"
CLIP = "torch.nn.utils.clip_grad_norm_"
SCHEDULE = "torch.optim.lr_scheduler.LRScheduler.step"
HEALTHY = [ZERO, FORWARD, BACKWARD, STEP]
EITHER = f"{ZERO} or {MODEL_ZERO}"

Steps = list[list[Told | str]]


@pytest.mark.parametrize("missing", [ZERO, BACKWARD, STEP])
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
    assert seen[0] == f"no call of {EITHER} before it"
    assert f"called again without {EITHER} in between" in seen


def test_what_evaluation_does_has_no_order() -> None:
    healthy: list[Told | str] = [*HEALTHY]
    evaluation: list[Told | str] = [Told(FORWARD, context=EVAL), Told(FORWARD, context=EVAL)]
    steps: Steps = [healthy, healthy, [*healthy, *evaluation]]
    invariants = learned(steps * 3)

    assert checked(invariants, [HEALTHY, [*HEALTHY, *evaluation * 3], HEALTHY]) == []
    [first, *_] = checked(invariants, [HEALTHY, [FORWARD, BACKWARD, STEP]])
    assert first.step == 1


def test_threads_do_not_lead_one_another() -> None:
    alone: Steps = [[BACKWARD, CLIP]] * 4
    elsewhere: Steps = [[BACKWARD, Told(CLIP, thread=2)]] * 4

    assert said(learned(alone), "lead") == {
        f"{BACKWARD} is followed by {CLIP} before it is called again",
        f"{CLIP} is followed by {BACKWARD} before it is called again",
    }
    assert said(learned(elsewhere), "lead") == set()


def test_what_is_called_within_another_is_not_led_by_it() -> None:
    nested: Steps = [[Told(CLIP, [BACKWARD])]] * 5
    assert said(learned(nested), "lead") == set()
    assert said(learned(nested), "cover") == set()


def test_a_loop_of_its_own_leads_nothing() -> None:
    assert said(learned([[BACKWARD] * 6 + [CLIP]] * 4), "lead") == set()


def test_two_runs_do_not_follow_one_another() -> None:
    once = [[SCHEDULE, BACKWARD, CLIP], [BACKWARD, CLIP], [BACKWARD, CLIP]]

    assert SCHEDULE not in " ".join(said(learned(once, once, once, fewest=1), "lead"))


def test_the_order_of_layers_and_initialisers_is_the_programs_own() -> None:
    model = [
        "torch.nn.init.kaiming_uniform_", "torch.nn.init.uniform_",
        "torch.nn.Linear.forward", "torch.nn.functional.relu", "torch.nn.Module.train",
    ]  # fmt: skip
    invariants = learned([[*model, BACKWARD, STEP]] * 5)

    assert {one for kind in ("lead", "cover") for one in said(invariants, kind)} == {
        f"{STEP} is called only after {BACKWARD}, each time anew",
        f"{STEP} is followed by {BACKWARD} before it is called again",
        f"{BACKWARD} is followed by {STEP} before it is called again, once {MADE} was called",
    }


def test_what_only_comes_round_again_is_not_missed_before_the_first() -> None:
    late = [[FORWARD, BACKWARD, STEP, ZERO]] * 5
    invariants = learned(late)

    assert said(invariants, "cover") == {f"{STEP} is called only after {BACKWARD}, each time anew"}
    assert f"{BACKWARD} is followed by {EITHER} before it is called again" in said(
        invariants, "lead"
    )
    assert checked(invariants, [HEALTHY] * 5) == []

    both = learned(late, [HEALTHY] * 5)
    assert checked(both, late) == []
    assert checked(both, [HEALTHY] * 5) == []
    assert checked(both, [[FORWARD, BACKWARD, STEP]] * 5) != []


def test_gradients_may_be_cleared_through_the_model() -> None:
    through_model = [MODEL_ZERO if name == ZERO else name for name in HEALTHY]
    for taught in (learned([HEALTHY] * 5), learned([through_model] * 5)):
        required = f"{BACKWARD} is called only after {EITHER}, each time anew"
        assert required in said(taught, "cover")
        assert checked(taught, [through_model] * 5) == []
        assert checked(taught, [HEALTHY] * 5) == []
        assert checked(taught, [HEALTHY[1:]] * 5)[0].step == 0


def test_a_program_that_writes_out_its_updates_needs_no_optimizer() -> None:
    invariants = learned([HEALTHY] * 5)
    by_hand = [[MODEL_ZERO, FORWARD, BACKWARD]] * 5

    assert checked(invariants, by_hand) == []
    [first, *_] = checked(invariants, [[MADE], *by_hand])
    assert (first.step, first.seen) == (2, f"called again without {STEP} in between")


def test_evaluation_needs_training_or_loading_at_some_time_before() -> None:
    epoch: list[Told | str] = [*HEALTHY, EVALUATE, Told(FORWARD, context=EVAL)]
    invariants = learned([epoch] * 5)

    [claim] = [one for one in said(invariants, "cover") if one.startswith(EVALUATE)]
    assert claim == (f"{EVALUATE} is called only after {STEP} or {LOAD}, once {MADE} was called")
    assert checked(invariants, [*[epoch] * 2, [EVALUATE, EVALUATE]]) == []
    assert checked(invariants, [[MADE, LOAD, EVALUATE], epoch]) == []
    assert checked(invariants, [[EVALUATE]]) == []
    [early] = checked(invariants, [[MADE, EVALUATE], epoch])
    assert (early.step, early.seen) == (0, f"no call of {STEP} or {LOAD} before it")


def with_closure() -> None:
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    batch = torch.randn(8, 4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(batch).square().mean()
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)


def without_closure() -> None:
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.slow
def test_a_step_that_is_given_a_closure_calls_what_it_needs_itself() -> None:
    invariants = learned_from(without_closure)

    assert len([*of("lead", invariants), *of("cover", invariants)]) == 9
    assert found_in(with_closure, invariants) == []
    together = learned_from(without_closure, with_closure)
    assert found_in(without_closure, together) == []
    assert {one.words() for one in of("cover", invariants)} == {
        one.words() for one in of("cover", together)
    }


def test_the_same_run_is_told_in_the_same_order() -> None:
    words = [one.words() for one in learned([[Told("a", [*"qwertyuiop"])]] * 4)]
    contained = [one for one in words if one.startswith("a calls")]
    assert contained == sorted(contained)
    assert len(contained) == 10
