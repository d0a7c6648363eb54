"""TrainCheck's invariants read as ours: what is read, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.check.traincheck.lines import UNCONDITIONAL, api, clause, file_of, line, when
from tests.check.traincheck.published import published

from remora.check.conditions import ALWAYS, Condition, Consistent, Constant, Unequal, Within
from remora.check.invariants import Invariant, Invariants, write_invariants
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.lead import Lead
from remora.check.relations.registry import RELATIONS
from remora.check.traincheck.arguments import CannotSay
from remora.check.traincheck.claims import Said, said_by
from remora.check.traincheck.lines import Param
from remora.check.traincheck.reading import Reading, Remark, read_any, read_traincheck
from remora.check.traincheck.writing import write_traincheck
from remora.core.errors import InvariantsUnusable

STEP = "torch.optim.Optimizer.step"


def read(tmp_path: Path, *lines: Any) -> Reading:
    return read_any(file_of(tmp_path / "their.json", *lines))


def only(reading: Reading) -> Invariant:
    assert reading.unread == []
    [invariant] = reading.invariants.invariants
    return invariant


# ---------------------------------------------------------------- relations


def test_a_containment_is_read_with_its_arguments_and_its_numbers(tmp_path: Path) -> None:
    child = api("torch._VariableFunctionsClass._foreach_add_", alpha={"float": -1.0})
    reading = read(tmp_path, line("APIContainRelation", api("app.update"), child))

    assert only(reading) == Invariant(
        claim=Contains("app.update", "torch._foreach_add_", {"alpha": -1.0}), support=7
    )
    assert reading.loosened == reading.unmet == []
    assert reading.invariants.header.sources[0].program == "their.json"


def test_a_step_of_one_class_of_optimizer_is_a_condition_on_its_class(tmp_path: Path) -> None:
    adam = api("torch.optim.adam.Adam.step")
    reading = read(tmp_path, line("APIContainRelation", adam, api("torch.equal")))

    assert only(reading).claim == Contains(STEP, "torch.equal")
    assert only(reading).when == Condition(((Constant("self.kind", ("Adam",)),),))


def test_a_chain_of_functions_is_one_claim_for_each_neighbouring_two(tmp_path: Path) -> None:
    chain = [api("a.a"), api("b.b"), api("c.c")]
    reading = read(
        tmp_path, line("FunctionLeadRelation", *chain), line("FunctionCoverRelation", *chain)
    )

    assert [one.claim for one in reading.invariants.invariants] == [
        Lead("a.a", "b.b"), Lead("b.b", "c.c"), Cover("a.a", "b.b"), Cover("b.b", "c.c"),
    ]  # fmt: skip


def test_of_what_has_to_follow_the_class_is_not_asked_and_that_is_said(tmp_path: Path) -> None:
    adam = api("torch.optim.adam.Adam.step")
    reading = read(tmp_path, line("FunctionLeadRelation", api("a.a"), adam))

    assert only(reading).claim == Lead("a.a", STEP)
    assert reading.loosened[0].reason == (
        "not checked: that self.kind of torch.optim.Optimizer.step is 'Adam'"
    )


_INPUT = {
    "param_type": "InputOutputParam", "name": "max_length", "index": None, "type": "int",
    "additional_path": None, "api_name": "app.f", "is_input": True,
}  # fmt: skip
_OUTPUT = {
    **_INPUT, "name": None, "index": 0, "additional_path": ["shape", -1], "is_input": False,
}  # fmt: skip
_WEIGHT = {"param_type": "VarTypeParam", "var_type": "torch.nn.Parameter", "attr_name": "data"}
_GRADIENT = {**_WEIGHT, "attr_name": "grad"}
_NAMED = {**_WEIGHT, "param_type": "VarNameParam", "var_name": "a"}


@pytest.mark.parametrize(
    ("relation", "params", "claim"),
    [
        (
            "DistinctArgumentRelation",
            [api("torch._C.TensorBase.normal_")],
            {"type": "distinct", "function": "torch.Tensor.normal_", "inputs": ()},
        ),
        (
            "ThresholdRelation",
            [_OUTPUT, api("app.f"), _INPUT],
            {"type": "threshold", "function": "app.f", "output": "result.shape",
             "input": "max_length", "bound": "max"},
        ),
        (
            "ConsistentInputOutputRelation",
            [{**_INPUT, "name": None, "index": 1}, api("app.f"),
             {**_OUTPUT, "index": 2, "additional_path": [0, "shape"]}],
            {"type": "input-output", "function": "app.f", "input": "1",
             "output": "result.2.0.shape"},
        ),
        (
            "ConsistentInputOutputRelation",
            [{**_INPUT, "name": None, "index": 1, "additional_path": ["dtype"]},
             api("torch.nn.modules.linear.Linear.forward"),
             {**_OUTPUT, "additional_path": "dtype"}],
            {"type": "input-output", "function": "torch.nn.Linear.forward",
             "input": "input.dtype", "output": "result.dtype"},
        ),
        (
            "ConsistentOutputRelation",
            [api("app.f"), {**_WEIGHT, "attr_name": "dtype",
                            "const_value": {"torch.dtype": "torch.bfloat16"}}],
            {"type": "constant output", "function": "app.f", "property": "result.dtype",
             "values": ["torch.bfloat16"]},
        ),
        (
            "APIContainRelation",
            [api("torch.optim.optimizer.Optimizer.zero_grad"),
             {**_WEIGHT, "attr_name": "grad", "post_value": None}],
            {"type": "changes", "function": "torch.optim.Optimizer.zero_grad",
             "variables": "gradient", "to": "none", "every": False},
        ),
        (
            "APIContainRelation",
            [api("app.f"), _WEIGHT],
            {"type": "changes", "function": "app.f", "variables": "parameter", "to": "changed",
             "every": False},
        ),
        (
            "ConsistencyRelation",
            [{**_NAMED, "var_name": "head.weight"}, {**_NAMED, "var_name": "body.weight"}],
            {"type": "consistent", "one": "head.weight", "other": "body.weight"},
        ),
    ],
)  # fmt: skip
def test_the_other_relations_are_said_in_our_fields(
    relation: str, params: list[Any], claim: dict[str, Any]
) -> None:
    import torch  # noqa: F401  for the names of its parameters

    told: list[Param] = msgspec.convert(params, list[Param])

    assert list(said_by(relation, told)) == [Said(claim)]


@pytest.mark.parametrize(
    ("relation", "params", "reason"),
    [
        ("ThresholdRelation", [_OUTPUT, api("app.f"), {**_INPUT, "name": "size"}], "min nor a max"),
        ("ThresholdRelation", [_OUTPUT, api("app.f"), _OUTPUT], "one given and one returned"),
        ("ConsistentOutputRelation", [api("app.f"), _WEIGHT], "data of a result"),
        (
            "ConsistentOutputRelation",
            [api("app.f"), {**_WEIGHT, "attr_name": "dtype"}],
            "without its value",
        ),
        ("DistinctArgumentRelation", [], "0 functions where one belongs"),
        ("FunctionLeadRelation", [api("a.a"), _WEIGHT], "VarTypeParam where a function belongs"),
        ("APIContainRelation", [api("a.a")], "containment of 1"),
        ("APIContainRelation", [api("a.a"), _NAMED], "the variable a alone"),
        ("APIContainRelation", [api("a.a"), {**_WEIGHT, "attr_name": "dtype"}], "change of dtype"),
        (
            "APIContainRelation",
            [api("a.a"), {**_WEIGHT, "post_value": "above_zero"}],
            "becomes 'above_zero'",
        ),
        ("ConsistencyRelation", [_WEIGHT, _WEIGHT], "any two variables of a class"),
        ("ConsistencyRelation", [_NAMED, {**_NAMED, "attr_name": "grad"}], "equal data and grad"),
        ("MadeUpRelation", [], "the relation 'MadeUpRelation'"),
    ],
)
def test_what_no_claim_says_is_refused_with_the_reason(
    relation: str, params: list[Any], reason: str
) -> None:
    told: list[Param] = msgspec.convert(params, list[Param])

    with pytest.raises(CannotSay, match=reason):
        list(said_by(relation, told))


# ---------------------------------------------------------------- conditions


def _contains(condition: Any, **more: Any) -> dict[str, Any]:
    return line("APIContainRelation", api("a.a"), api("b.b"), condition=condition, **more)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (clause("constant", "meta_vars.stage", ["training"]), Constant("phase", ("train",))),
        (
            clause("constant", "meta_vars.stage", ["testing", "validation"]),
            Constant("phase", ("eval",)),
        ),
        (
            clause("constant", "meta_vars.on", [1.0], prop_dtype="bool"),
            Constant("meta_vars.on", (True,)),
        ),
        (clause("consistent", "meta_vars.epoch"), Consistent("meta_vars.epoch")),
        (clause("unequal", "meta_vars.epoch"), Unequal("meta_vars.epoch")),
        (
            clause("constant", "meta_vars.lr", [1], additional_path=["group", 0]),
            Constant("meta_vars.lr.group.0", (1,)),
        ),
        (
            clause("exist", "context_managers.torch.autograd.grad_mode.no_grad"),
            Constant("grad", (False,)),
        ),
        (
            clause("exist", "context_managers.torch.amp.autocast_mode.autocast",
                   [{"dtype": {"torch.dtype": "torch.bfloat16"}}]),
            Constant("autocast", ("torch.bfloat16",)),
        ),
        (
            clause("exist", "context_managers.app.scope", [{"level": {"int": 2}}]),
            Within("app.scope", {"level": 2}),
        ),
    ],
)  # fmt: skip
def test_a_clause_is_read_in_our_words(tmp_path: Path, told: Any, expected: Any) -> None:
    found = only(read(tmp_path, _contains(when(told)))).when

    assert repr(found) == repr(Condition(((expected,),)))  # True is not 1


@pytest.mark.parametrize("name", ["process_id", "thread_id", "meta_vars.step", "function"])
def test_what_is_in_every_call_need_not_be_asked_for(tmp_path: Path, name: str) -> None:
    assert only(read(tmp_path, _contains(when(clause("consistent", name))))).when == ALWAYS


def test_a_disjunction_and_its_negation_are_kept(tmp_path: Path) -> None:
    stage = clause("constant", "meta_vars.stage", ["training"])
    grad = clause("exist", "context_managers.torch.no_grad")
    both = {"inverted": True, "preconditions": [{"clauses": [stage]}, {"clauses": [grad]}]}

    assert only(read(tmp_path, _contains(both))).when == Condition(
        ((Constant("phase", ("train",)),), (Constant("grad", (False,)),)), inverted=True
    )


def test_what_no_running_job_meets_is_told_apart(tmp_path: Path) -> None:
    step = clause("constant", "meta_vars.step", [-1.0])
    either = {"inverted": False, "preconditions": [{"clauses": [step]}, {"clauses": []}]}
    reading = read(tmp_path, _contains(when(step)), _contains(either))

    assert len(reading.invariants.invariants) == 2
    name = reading.invariants.invariants[0].name
    assert reading.unmet == [
        Remark(1, "APIContainRelation told", "no running job tells meta_vars.step", (name,))
    ]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (when(clause("constant", "meta_vars.step", [1]), inverted=True), "a negated condition"),
        (when(clause("newer", "phase")), "a clause of type 'newer'"),
        (when({**clause("constant", "phase", [1]), "more": 1}), "unknown field `more`"),
        (None, "no precondition was found"),
    ],
)
def test_a_condition_that_cannot_be_honoured_leaves_its_line_unread(
    tmp_path: Path, condition: Any, reason: str
) -> None:
    reading = read(tmp_path, _contains(UNCONDITIONAL), _contains(condition))

    assert len(reading.invariants.invariants) == 1
    [remark] = reading.unread
    assert (remark.line, remark.text) == (2, "APIContainRelation told")
    assert reason in remark.reason


def test_arguments_next_to_a_negated_condition_leave_it_unread(tmp_path: Path) -> None:
    condition = when(clause("constant", "meta_vars.stage", ["training"]), inverted=True)
    step = api("torch.optim.adam.Adam.step")
    reading = read(tmp_path, line("APIContainRelation", step, api("b.b"), condition=condition))

    assert "a negated condition next to self.kind" in reading.unread[0].reason


def test_a_parameter_of_a_newer_kind_leaves_its_line_unread(tmp_path: Path) -> None:
    newer = {**api("b.b"), "device": "cpu"}
    reading = read(tmp_path, line("APIContainRelation", api("a.a"), newer))

    assert "device" in reading.unread[0].reason
    assert reading.invariants.invariants == ()


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    "damaged", ['{"relation": "APIContainRelation", ', '{"relation": 3}', "[]", '"text"']
)
def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path, damaged: str) -> None:
    path = file_of(tmp_path / "their.json", _contains(UNCONDITIONAL), "", damaged)

    with pytest.raises(InvariantsUnusable, match=r"their\.json, line 3: "):
        read_any(path)


def test_either_kind_of_file_is_known_by_its_content(tmp_path: Path) -> None:
    invariant = Invariant(claim=Lead("a.a", "b.b"))
    written = Invariants(
        header=read(tmp_path, _contains(UNCONDITIONAL)).invariants.header, invariants=(invariant,)
    )
    write_invariants(tmp_path / "ours.json", written)

    assert read_any(tmp_path / "ours.json") == Reading(written)
    assert only(read(tmp_path, "", _contains(UNCONDITIONAL))).claim == Contains("a.a", "b.b")


@pytest.mark.parametrize("content", ["", "neither", '{"format": "remora-trace"}'])
def test_a_file_of_neither_kind_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvariantsUnusable):
        read_any(file_of(tmp_path / "other.json", content))
    with pytest.raises(InvariantsUnusable, match="cannot be read"):
        read_traincheck(tmp_path / "missing.json")


def test_the_published_hundred_are_read_every_one_with_its_arguments() -> None:
    reading = read_any(published("deployed_100_invariants.json"))
    claims = [one.claim for one in reading.invariants.invariants]

    assert reading.unread == []
    assert len({one.name for one in reading.invariants.invariants}) == 100
    assert [remark.line for remark in reading.unmet] == [90, 91, 92, 93]
    assert all(isinstance(claim, Contains) for claim in claims)
    assert sum(bool(claim.child_inputs) for claim in claims if isinstance(claim, Contains)) == 48
    assert (
        Contains("torch.optim.adadelta.adadelta", "torch._foreach_add_", {"alpha": -1.0}) in claims
    )


_OTHERS = [
    ("distinct", line("DistinctArgumentRelation", api("torch._C.TensorBase.normal_"))),
    ("threshold", line("ThresholdRelation", _OUTPUT, api("app.f"), _INPUT)),
    ("changes", line("APIContainRelation", api("app.f"), _WEIGHT)),
    ("changes", line("APIContainRelation", api("app.f"), {**_GRADIENT, "post_value": None})),
    ("consistent", line("ConsistencyRelation", _NAMED, {**_NAMED, "var_name": "b"})),
    (
        "constant output",
        line("ConsistentOutputRelation", api("app.f"),
             {**_WEIGHT, "attr_name": "requires_grad", "const_value": True}),
    ),
    (
        "input-output",
        line("ConsistentInputOutputRelation", {**_INPUT, "additional_path": ["dtype"]},
             api("app.f"), {**_OUTPUT, "additional_path": ["dtype"]}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("relation", "told"), _OTHERS)
def test_the_other_relations_are_read_and_come_back(
    tmp_path: Path, relation: str, told: Any
) -> None:
    if relation not in {one.name for one in RELATIONS}:
        pytest.skip(f"no relation {relation}")
    first = only(read(tmp_path, told))

    assert first.relation == relation
    assert write_traincheck(tmp_path / "again.json", [first]) == []
    assert only(read_traincheck(tmp_path / "again.json")) == first


def test_a_condition_on_two_variables_leaves_a_line_unread(tmp_path: Path) -> None:
    names = [{**_NAMED, "var_name": name} for name in ("a", "b")]
    told = when(clause("unequal", "process_id"))
    reading = read(tmp_path, line("ConsistencyRelation", *names, condition=told, group="var_pair"))

    assert "a condition on var_pair" in reading.unread[0].reason
