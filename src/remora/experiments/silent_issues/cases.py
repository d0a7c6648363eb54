"""The issues, each with its program and what would be a catch rather than an accident."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remora.core.errors import UnknownName

ORDER = ("cover", "lead")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One issue."""

    issue: str
    program: str
    wrong: str
    published: str
    """The relation that TrainCheck has for it."""
    relations: tuple[str, ...]
    """Ours that speak of the fault. A violation of any other is an accident, and no catch."""
    about: str
    """A pattern that is found in the words of an invariant that speaks of the fault."""
    ranks: int = 1
    from_step: int = 0
    """The first step in which what the program does is wrong."""
    watch: tuple[str, ...] = ()
    """Functions of the program's own that are watched to learn."""


CASES = (
    Case(
        issue="pytorch-forum-84911", program="all_frozen",
        wrong="everything is frozen, and the optimizer changes nothing",
        published="APIContain, variable change", relations=("changes",), about="parameter",
    ),
    Case(
        issue="stackoverflow-60335387", program="no_zero_grad",
        wrong="gradients are never cleared, and add up",
        published="Cover / APIContain", relations=(*ORDER, "changes"), about="zero_grad",
    ),
    Case(
        issue="accelerate-2665", program="other_parameters",
        wrong="the optimizer holds other parameters than the model",
        published="APIContain", relations=("changes",), about="step changes",
    ),
    Case(
        issue="mmpretrain-702", program="not_frozen",
        wrong="stages that should be frozen are trained",
        published="Cover / variable must not change", relations=("changes",), about="keeps every",
    ),
    Case(
        issue="transformers-33844", program="dropout_in_eval", from_step=8,
        wrong="dropout drops in evaluation",
        published="APIContain with argument", relations=("constant input",), about="dropout",
    ),
    Case(
        issue="lightning-thunder-725", program="no_autocast",
        wrong="a compiled model does not hear of autocast",
        published="ConsistentOutput within autocast", relations=("constant output",),
        about="bfloat16",
    ),
    Case(
        issue="transformers-17877", program="initialised_twice",
        wrong="every weight is initialised twice",
        published="DistinctArgument", relations=("distinct",), about="normal_",
    ),
    Case(
        issue="transformers-23723", program="too_many_tokens", from_step=4,
        wrong="more tokens than max_new_tokens are generated", watch=("__main__.generate",),
        published="Threshold", relations=("threshold",), about="max_new_tokens",
    ),
    Case(
        issue="stackoverflow-67180955", program="workers_share_seed", from_step=1,
        wrong="a loader's workers share a numpy seed, and draw alike",
        published="DistinctArgument", relations=("fresh",), about="DataLoader",
    ),
    Case(
        issue="transformers-34204", program="wrong_batch_shape",
        wrong="a batch is not of the size that was asked for",
        published="none yet", relations=("full batch",), about="batch_size",
    ),
    Case(
        issue="pytorch-51800", program="spectral_norm_eval",
        wrong="spectral normalisation is used in evaluation before any training",
        published="Cover / Lead of train and eval", relations=ORDER, about="eval",
    ),
    Case(
        issue="pytorch-115607", program="compiled_step_skipped", from_step=1,
        wrong="a compiled training step is skipped after the first",
        published="APIContain of step and zero_grad", relations=ORDER, about="Optimizer.step",
    ),
    Case(
        issue="pytorch-96600", program="lost_between_ranks", ranks=2, from_step=12,
        wrong="a collective loses part of what it moves",
        published="Consistency across ranks", relations=("consistent",), about="every rank",
    ),
    Case(
        issue="pytorch-84803", program="lost_in_copy", ranks=2,
        wrong="a copy to another device arrives as zeros",
        published="Consistency across ranks", relations=("consistent",), about="every rank",
    ),
    Case(
        issue="baichuan2-86", program="lost_in_broadcast", ranks=2, from_step=12,
        wrong="a link zeroes part of the parameters that are gathered back",
        published="Consistency across ranks", relations=("consistent",), about="every rank",
    ),
    Case(
        issue="deepspeed-1801", program="clipped_on_one_rank", ranks=2,
        wrong="gradients are clipped on one tensor-parallel rank only",
        published="Consistency", relations=("consistent", *ORDER),
        about="every rank|clip_grad",
    ),
    Case(
        issue="deepspeed-5794", program="experts_disagree", ranks=2, from_step=1,
        wrong="ranks give all_to_all sizes that do not agree",
        published="unsupported", relations=("agreement",), about="every rank",
    ),
    Case(
        issue="pytorch-104336", program="hooks_lost", ranks=2,
        wrong="DDP's hooks are lost when the model is moved",
        published="Consistency", relations=("consistent",), about="every rank",
    ),
    Case(
        issue="x-jxmnop", program="bare_module_trained", ranks=2,
        wrong="the bare module is trained, not its DDP wrapper",
        published="Consistency", relations=("consistent",), about="every rank",
    ),
)  # fmt: skip
"""In the order of the table: those of one process first."""
OTHERS = ("dropout_in_eval", "no_zero_grad", "other_parameters")
"""Healthy programs that are learned from beside a case's own twin; the first two that differ."""


def chosen(programs: Sequence[str]) -> list[Case]:
    """The cases of these programs (or issues), all if none is named.

    Raises:
        UnknownName: there is no such program.
    """
    known = {name: case for case in CASES for name in (case.program, case.issue)}
    for name in programs:
        if name not in known:
            raise UnknownName("program", name, [case.program for case in CASES])
    picked = {known[name].program for name in programs}
    return [case for case in CASES if not picked or case.program in picked]


def others(case: Case) -> list[Case]:
    """The other programs that are learned from for ``case``."""
    return [one for name in OTHERS if name != case.program for one in chosen([name])][:2]
