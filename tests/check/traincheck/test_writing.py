"""Ours as TrainCheck's and back: what is written is read as what it was."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.check.traincheck.lines import UNCONDITIONAL, api, clause, file_of, line
from tests.check.traincheck.published import published

from remora.check.conditions import (
    ALWAYS,
    Clause,
    Condition,
    Consistent,
    Constant,
    Unequal,
    Within,
)
from remora.check.invariants import Invariant
from remora.check.relations.changes import Changes
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.lead import Lead
from remora.check.relations.monotone import Monotone
from remora.check.relations.periodic import Periodic
from remora.check.relations.periodic_change import PeriodicChange
from remora.check.relations.range import Range
from remora.check.relations.registry import AnyClaim
from remora.check.traincheck.reading import read_traincheck
from remora.check.traincheck.writing import write_traincheck
from remora.core.errors import InvariantsUnusable

STEP = "torch.optim.Optimizer.step"
FORWARD = "torch.nn.Module.forward"

_functions = st.sampled_from(
    ["app.train", "torch.nn.Module.train", "torch.equal", "torch.Tensor.normal_", STEP, FORWARD]
)
_plain = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=3), st.just("torch.int8"),
)  # fmt: skip
_inputs = st.dictionaries(st.sampled_from(["x", "y", "x.kind", "self.kind"]), _plain, max_size=2)
_claims: st.SearchStrategy[AnyClaim] = st.one_of(
    st.builds(Contains, _functions, _functions, _inputs),
    st.builds(Cover, _functions, _functions),
    st.builds(Lead, _functions, _functions),
)
_phases = st.lists(st.sampled_from(["train", "eval", "start", "other"]), min_size=1, unique=True)
_clauses: st.SearchStrategy[Clause] = st.one_of(
    st.builds(Constant, st.just("phase"), _phases.map(tuple)),
    st.builds(Constant, st.sampled_from(["grad"]), st.tuples(st.booleans())),
    st.builds(Constant, st.just("autocast"), st.sampled_from([("torch.float16",), (None,)])),
    st.builds(Constant, st.sampled_from(["meta_vars.step", "x"]), st.tuples(_plain)),
    st.builds(Constant, st.just("meta_vars.epoch"), st.just((True, 2))),
    st.builds(Consistent, st.sampled_from(["meta_vars.epoch", "rank"])),
    st.builds(Unequal, st.just("meta_vars.epoch")),
    st.builds(Within, st.just("app.scope"), st.dictionaries(st.just("level"), _plain, max_size=1)),
)
_conditions = st.builds(
    Condition,
    st.lists(st.lists(_clauses, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple),
    st.booleans(),
)
_invariants = st.builds(
    Invariant,
    claim=_claims,
    when=st.one_of(st.just(ALWAYS), _conditions),
    support=st.integers(0, 9),
    against=st.integers(0, 9),
)


@settings(max_examples=300, deadline=None)
@given(_invariants)
def test_what_is_written_is_read_as_it_was_meant(invariant: Invariant) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "their.json"
        unsaid = write_traincheck(path, [invariant])
        if unsaid:
            assert path.read_bytes() == b""
            assert unsaid[0].name == invariant.name
            return
        reading = read_traincheck(path)
    if reading.unread:
        assert "a negated condition" in reading.unread[0].reason
    else:
        assert _meaning(reading.invariants.invariants) == _meaning([invariant])
        assert reading.loosened == []


def _meaning(invariants: Iterable[Invariant]) -> list[Any]:
    """Clauses in whatever order, values with their types; what is always so once."""
    return [
        (repr(one.claim), _when(one.when), one.when.inverted, one.support, one.against)
        for one in invariants
    ]


def _when(condition: Condition) -> set[frozenset[str]]:
    if condition.unconditional:
        return set()
    return {frozenset(map(_as_text, clauses)) for clauses in condition.any_of}


def _as_text(told: Clause) -> str:
    return repr(told).replace("(", "[").replace(")", "]").replace(",]", "]")


_values = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["a", "training"]))
_their_clauses = st.one_of(
    st.builds(
        clause, st.just("constant"),
        st.sampled_from(["meta_vars.stage", "meta_vars.step", "thread_id"]),
        st.lists(_values, min_size=1, max_size=1),
    ),
    st.builds(
        clause, st.sampled_from(["consistent", "unequal"]),
        st.sampled_from(["meta_vars.step", "process_id", "meta_vars.epoch"]),
    ),
    st.builds(
        clause, st.just("exist"),
        st.sampled_from(["context_managers.torch.no_grad", "context_managers.app.scope",
                         "context_managers.torch.amp.autocast_mode.autocast"]),
    ),
)  # fmt: skip
_their_names = st.sampled_from(
    ["torch.optim.adam.Adam.step", "torch._C.TensorBase.normal_", "app.f",
     "torch.nn.modules.linear.Linear.forward"]
)  # fmt: skip
_typed = st.sampled_from(
    [{"int": 1}, {"NoneType": None}, {"list": []}, {"dict": {}},
     {"torch.nn.Parameter": {"dtype": "torch.int8", "shape": [2], "requires_grad": True}},
     {"torch.nn.modules.dropout.Dropout": {"training": True}}]
)  # fmt: skip
_their_functions = st.one_of(
    st.builds(api, _their_names),
    st.builds(lambda name, value: api(name, x=value), _their_names, _typed),
)
_their_conditions = st.one_of(
    st.just(UNCONDITIONAL),
    st.fixed_dictionaries({
        "inverted": st.just(False),
        "preconditions": st.lists(
            st.fixed_dictionaries({"clauses": st.lists(_their_clauses, max_size=3)}),
            min_size=1, max_size=1,
        ),
    }),
)  # fmt: skip
_their_lines = st.builds(
    lambda parent, child, condition: line(
        "APIContainRelation", parent, child, condition=condition
    ),
    _their_functions, _their_functions, _their_conditions,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_their_lines)
def test_theirs_keeps_its_meaning_through_ours(told: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = read_traincheck(file_of(Path(folder) / "first.json", told))
        assert first.unread == []
        assert write_traincheck(Path(folder) / "again.json", first.invariants.invariants) == []
        again = read_traincheck(Path(folder) / "again.json")
    assert _meaning(again.invariants.invariants) == _meaning(first.invariants.invariants)


def test_what_cannot_be_said_there_is_named_and_the_rest_written(tmp_path: Path) -> None:
    sayable = Invariant(claim=Lead("app.a", "app.b"))
    any_step = Invariant(claim=Lead("app.a", STEP))
    on_input = Invariant(claim=Lead("app.a", "app.b"),
                         when=Condition(((Constant("mode", (1, 2)),),)))  # fmt: skip
    unsaid = write_traincheck(tmp_path / "their.json", [any_step, sayable, on_input])

    assert [(one.name, one.reason) for one in unsaid] == [
        (any_step.name, f"TrainCheck has no words for {STEP} of any class"),
        (on_input.name, "TrainCheck has no words for a condition on mode"),
    ]
    assert len((tmp_path / "their.json").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("claim", "what"),
    [
        (Range(STEP, "gradient norm", 0.1, 10.0), "the relation 'range'"),
        (Monotone(STEP, "step", 1.0), "the relation 'monotone'"),
        (Periodic(STEP, 2, "torch.Tensor.backward"), "the relation 'periodic'"),
        (PeriodicChange("target", 4), "the relation 'periodic change'"),
        (Changes(STEP, "optimizer state", "changed"), "that every optimizer state is changed"),
    ],
)
def test_what_has_no_like_there_is_named(tmp_path: Path, claim: AnyClaim, what: str) -> None:
    [unsaid] = write_traincheck(tmp_path / "their.json", [Invariant(claim=claim)])

    assert unsaid.reason == f"TrainCheck has no words for {what}"


def test_nor_has_a_warm_up(tmp_path: Path) -> None:
    later = Condition(((Constant("warm_up", (False,)),),))
    [unsaid] = write_traincheck(
        tmp_path / "their.json", [Invariant(claim=Lead("app.a", "app.b"), when=later)]
    )

    assert unsaid.reason == "TrainCheck has no words for a condition on warm_up"


def test_two_values_at_once_of_an_input_are_not_said_as_one(tmp_path: Path) -> None:
    never = Condition(((Constant("x", (1,)), Constant("x", (2,))),))
    [unsaid] = write_traincheck(
        tmp_path / "their.json", [Invariant(claim=Lead("app.a", "app.b"), when=never)]
    )

    assert unsaid.reason == "TrainCheck has no words for a condition on x"


def test_the_names_are_those_of_where_a_function_is_defined(tmp_path: Path) -> None:
    when = Condition(((Constant("self.kind", ("SGD",)),),))
    write_traincheck(
        tmp_path / "their.json",
        [Invariant(claim=Contains(STEP, "torch.equal", {"x": 1}), when=when, support=5)],
    )

    told = json.loads((tmp_path / "their.json").read_text())
    equal = "torch._VariableFunctionsClass.equal"
    assert told == {
        "text_description": f"{STEP} calls torch.equal with x=1 when self.kind is 'SGD'",
        "relation": "APIContainRelation",
        "params": [api("torch.optim.sgd.SGD.step"), api(equal, x={"int": 1})],
        "precondition": {"parent_func_call_pre": UNCONDITIONAL},
        "num_positive_examples": 5,
        "num_negative_examples": 0,
    }


def test_a_file_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvariantsUnusable, match="cannot be written"):
        write_traincheck(tmp_path / "file" / "their.json", [])


def test_the_published_hundred_come_back_as_they_were(tmp_path: Path) -> None:
    first = read_traincheck(published("deployed_100_invariants.json")).invariants.invariants

    assert write_traincheck(tmp_path / "again.json", first) == []
    assert read_traincheck(tmp_path / "again.json").invariants.invariants == first
