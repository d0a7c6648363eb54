"""Write our invariants as TrainCheck's JSON lines.

What it has no words for is left out and named: relations it does not have, functions that stand
for the same method of every class, conditions on inputs or on gradients being on. A condition on
the inputs of the call an invariant is judged on is written as that function's arguments, where it
is a single value each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from remora.check.calls import OPTIMIZER_STEP
from remora.check.conditions import Clause, Condition, Constant
from remora.check.invariants import Invariant
from remora.check.observe.context import PROPERTIES
from remora.check.observe.reading import RESULT
from remora.check.traincheck.arguments import CannotSay, arguments_of
from remora.check.traincheck.claims import DATA, FACTS, KINDS, PARAMETER_TYPE
from remora.check.traincheck.clauses import is_foreign, precondition_of
from remora.check.traincheck.lines import (
    UNSET,
    ApiParam,
    InputOutputParam,
    Param,
    VarNameParam,
    VarTypeParam,
    WrittenLine,
)
from remora.check.traincheck.names import OPTIMIZER_CLASS, theirs
from remora.core.errors import InvariantsUnusable
from remora.core.files import write_atomically


class Unsaid(NamedTuple):
    """An invariant that TrainCheck has no words for."""

    name: str
    words: str
    reason: str


def write_traincheck(path: Path, invariants: Iterable[Invariant]) -> list[Unsaid]:
    """Replace ``path`` by those of ``invariants`` that can be said there; return the others.

    Functions are named by where they are defined, for which torch is imported.

    Raises:
        InvariantsUnusable: it cannot be written.
    """
    lines, unsaid = [], []
    for invariant in invariants:
        try:
            lines.append(msgspec.json.encode(line_of(invariant)))
        except CannotSay as reason:
            why = f"TrainCheck has no words for {reason}"
            unsaid.append(Unsaid(invariant.name, invariant.words(), why))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(line + b"\n" for line in lines))
    except OSError as error:
        raise InvariantsUnusable(f"{path} cannot be written: {error.strerror}") from None
    return unsaid


def line_of(invariant: Invariant) -> WrittenLine:
    """``invariant`` in TrainCheck's words.

    Raises:
        CannotSay: there are none.
    """
    claim = msgspec.to_builtins(invariant.claim)
    write = _WRITERS.get(claim["type"])
    if write is None:
        raise CannotSay(f"the relation {invariant.relation!r}")
    when, given = _without_inputs(invariant.when)
    relation, group, params = write(claim, given)
    return WrittenLine(
        text_description=invariant.words(),
        relation=relation,
        params=params,
        precondition={group: precondition_of(when)},
        num_positive_examples=invariant.support,
        num_negative_examples=invariant.against,
    )


def _without_inputs(condition: Condition) -> tuple[Condition, dict[str, Any]]:
    """What is left of ``condition`` besides single values of inputs, and these."""
    if condition.inverted or len(condition.any_of) != 1:
        return condition, {}
    left: list[Clause] = []
    given: dict[str, Any] = {}
    for clause in condition.any_of[0]:
        if (
            isinstance(clause, Constant)
            and _is_one_value_of_an_input(clause)
            and clause.property not in given
        ):
            given[clause.property] = clause.values[0]
        else:
            left.append(clause)
    return Condition(any_of=(tuple(left),)), given


def _is_one_value_of_an_input(clause: Constant) -> bool:
    name = clause.property
    return len(clause.values) == 1 and name not in PROPERTIES and not is_foreign(name)


# ---------------------------------------------------------------- relations

_Claim = Mapping[str, Any]
_Said = tuple[str, str, list[Param]]
"""Relation, the group its condition is under, parameters."""


def _contains(claim: _Claim, given: _Claim) -> _Said:
    child = _function(claim["child"], claim.get("child_inputs", {}))
    return "APIContainRelation", "parent_func_call_pre", [_function(claim["parent"], given), child]


def _lead(claim: _Claim, given: _Claim) -> _Said:
    _two_alone(claim)
    params: list[Param] = [_function(claim["first"], given), _function(claim["then"], {})]
    return "FunctionLeadRelation", "func_lead", params


def _cover(claim: _Claim, given: _Claim) -> _Said:
    _two_alone(claim)
    params: list[Param] = [_function(claim["first"], {}), _function(claim["then"], given)]
    return "FunctionCoverRelation", "func_cover", params


def _two_alone(claim: _Claim) -> None:
    if others := (*claim.get("instead", ()), *claim.get("once", ())):
        raise CannotSay(f"an order that takes {' and '.join(others)} into account")


def _distinct(claim: _Claim, given: _Claim) -> _Said:
    if claim["inputs"]:
        raise CannotSay(f"distinct {', '.join(claim['inputs'])} alone")
    return "DistinctArgumentRelation", "distinct_arg", [_function(claim["function"], given)]


def _constant_output(claim: _Claim, given: _Claim) -> _Said:
    result, _, attribute = claim["property"].partition(".")
    if result != RESULT or not attribute or "." in attribute or len(claim["values"]) != 1:
        raise CannotSay(f"that {claim['property']} is one of {len(claim['values'])} values")
    variable = VarTypeParam(
        var_type="torch.Tensor", attr_name=attribute, const_value=claim["values"][0]
    )
    params: list[Param] = [_function(claim["function"], given), variable]
    return "ConsistentOutputRelation", "pre_event", params


def _input_output(claim: _Claim, given: _Claim) -> _Said:
    return "ConsistentInputOutputRelation", "pre_event", _given_and_returned(claim, given)


def _threshold(claim: _Claim, given: _Claim) -> _Said:
    if claim["bound"] not in claim["input"].lower():
        raise CannotSay(f"a {claim['bound']}imum that is called {claim['input']}")
    if claim["less"]:
        raise CannotSay(f"{claim['output']} less {claim['less']}")
    params = _given_and_returned(claim, given)
    last = params[-1]
    if isinstance(last, InputOutputParam) and last.additional_path == ["shape"]:
        last.additional_path = ["shape", -1]
    return "ThresholdRelation", "pre_event", params


def _given_and_returned(claim: _Claim, given: _Claim) -> list[Param]:
    function = _function(claim["function"], given)
    return [
        _value(function.api_full_name, claim["input"], is_input=True),
        function,
        _value(function.api_full_name, claim["output"], is_input=False),
    ]


def _value(api: str, path: str, *, is_input: bool) -> InputOutputParam:
    root, *rest = path.split(".")
    position = _position(root if is_input else rest[0] if rest else "")
    if not is_input:
        rest = rest[1:] if position is not None else rest
        position = position if position is not None else 0
    name = root if is_input and position is None else None
    return InputOutputParam(
        name=name, index=position, additional_path=list(rest) or None, api_name=api,
        is_input=is_input,
    )  # fmt: skip


def _position(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _changes(claim: _Claim, given: _Claim) -> _Said:
    attribute = _ATTRIBUTES.get(claim["variables"])
    becomes = next((value for value, fact in FACTS.items() if fact == claim["to"]), UNSET)
    if attribute is None or becomes is UNSET or claim["every"] or claim["module"]:
        every = "every" if claim["every"] else "some"
        raise CannotSay(f"that {every} {claim['variables']} is {claim['to']}")
    variable = VarTypeParam(
        var_type=PARAMETER_TYPE, attr_name=attribute, post_value=UNSET if becomes == "" else becomes
    )
    params: list[Param] = [_function(claim["function"], given), variable]
    return "APIContainRelation", "parent_func_call_pre", params


def _consistent(claim: _Claim, given: _Claim) -> _Said:
    if claim["across"] != "run":
        raise CannotSay("one variable in several ranks")
    params: list[Param] = [
        VarNameParam(var_name=claim[which], var_type=PARAMETER_TYPE, attr_name=DATA)
        for which in ("one", "other")
    ]
    return "ConsistencyRelation", "var_pair", params


_ATTRIBUTES = {kind: attribute for attribute, kind in KINDS.items()}
_WRITERS: dict[str, Callable[[_Claim, _Claim], _Said]] = {
    "contains": _contains,
    "lead": _lead,
    "cover": _cover,
    "distinct": _distinct,
    "constant output": _constant_output,
    "input-output": _input_output,
    "threshold": _threshold,
    "changes": _changes,
    "consistent": _consistent,
}


def _function(name: str, inputs: Mapping[str, Any]) -> ApiParam:
    asked = dict(inputs)
    optimizer = asked.pop(OPTIMIZER_CLASS, None) if name == OPTIMIZER_STEP else None
    their_name = theirs(name, optimizer if isinstance(optimizer, str) else None)
    if their_name is None:
        raise CannotSay(f"{name} of {'any class' if optimizer is None else repr(optimizer)}")
    arguments = {"args": arguments_of(asked), "func_name": their_name} if asked else UNSET
    return ApiParam(api_full_name=their_name, arguments=arguments)
