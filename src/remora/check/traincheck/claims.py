"""TrainCheck's relations as our claims: for each of its eight, what its parameters say.

============================  =====================================================
APIContainRelation            contains; changes, where the child is a variable
FunctionLeadRelation          lead, one for each neighbouring two of its functions
FunctionCoverRelation         cover, the same
ConsistentOutputRelation      constant output
ConsistentInputOutputRelation  input-output
DistinctArgumentRelation      distinct
ThresholdRelation             threshold
ConsistencyRelation           consistent
============================  =====================================================

A position counts the arguments from 0, a method's object included, and is turned into the
parameter's name where the function is there to be asked. Position 0 of a result is the result. Of
the sizes of a result only the last is held against a threshold, and size 1 taken for it.

Variables are judged by kind (parameters, gradients) or by their full names, so consistency of any
two variables of a class, under a condition on the two, is not said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from remora.check.observe.reading import RESULT
from remora.check.traincheck.arguments import ATTRIBUTES, CannotSay, pattern_of
from remora.check.traincheck.lines import (
    UNSET,
    ApiParam,
    InputOutputParam,
    Param,
    VariableParam,
    VarNameParam,
)
from remora.check.traincheck.names import ours
from remora.check.traincheck.parameters import parameter_names

DATA = "data"
PARAMETER_TYPE = "torch.nn.Parameter"
KINDS = {DATA: "parameter", "grad": "gradient"}
"""By attribute of a parameter, the kind of variable it is."""
FACTS = {"": "changed", None: "none", "non_none": "set"}
"""By what a variable becomes, if that is told, our word for it."""

Kind = TypeVar("Kind", ApiParam, VariableParam, InputOutputParam)


@dataclass
class Said:
    """A claim, by the fields of its relation."""

    claim: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    """Properties that the inputs of the call it is judged on have to have."""
    lost: list[str] = field(default_factory=list)
    """What else is asked there, and not by the claim."""


@dataclass
class _Function:
    """A function that a parameter names, and what is asked of its inputs."""

    name: str
    inputs: dict[str, Any]
    lost: list[str]


def said_by(relation: str, params: Sequence[Param]) -> Iterator[Said]:
    """What the parameters of ``relation`` claim.

    Raises:
        CannotSay: no claim of ours says that.
    """
    read = _READERS.get(relation)
    if read is None:
        raise CannotSay(f"the relation {relation!r}")
    yield from read(params)


def _contains(params: Sequence[Param]) -> Iterator[Said]:
    if len(params) != 2:
        raise CannotSay(f"a containment of {len(params)} parameters")
    parent, child = _function(params[0]), params[1]
    if isinstance(child, VariableParam):
        yield Said(_change(parent.name, child), parent.inputs, parent.lost)
        return
    within = _function(child)
    claim = {
        "type": "contains", "parent": parent.name, "child": within.name,
        "child_inputs": within.inputs,
    }  # fmt: skip
    yield Said(claim, parent.inputs, parent.lost + within.lost)


def _lead(params: Sequence[Param]) -> Iterator[Said]:
    for first, then in pairwise(map(_function, params)):
        claim = {"type": "lead", "first": first.name, "then": then.name}
        yield Said(claim, first.inputs, first.lost + _not_asked(then))


def _cover(params: Sequence[Param]) -> Iterator[Said]:
    for first, then in pairwise(map(_function, params)):
        claim = {"type": "cover", "first": first.name, "then": then.name}
        yield Said(claim, then.inputs, then.lost + _not_asked(first))


def _not_asked(function: _Function) -> list[str]:
    """Of the function that has to be called, any call counts."""
    return function.lost + [
        f"that {name} of {function.name} is {value!r}" for name, value in function.inputs.items()
    ]


def _distinct(params: Sequence[Param]) -> Iterator[Said]:
    function = _only_function(params)
    claim = {"type": "distinct", "function": function.name, "inputs": ()}
    yield Said(claim, function.inputs, function.lost)


def _constant_output(params: Sequence[Param]) -> Iterator[Said]:
    function = _only_function(params)
    for variable in _of(params, VariableParam):
        if variable.attr_name not in ATTRIBUTES:
            raise CannotSay(f"{variable.attr_name} of a result")
        if variable.const_value is UNSET:
            raise CannotSay(f"a constant {variable.attr_name} without its value")
        value, _ = pattern_of({"value": variable.const_value})
        claim = {
            "type": "constant output", "function": function.name,
            "property": f"{RESULT}.{variable.attr_name}", "values": list(value.values()),
        }  # fmt: skip
        yield Said(claim, function.inputs, function.lost)


def _input_output(params: Sequence[Param]) -> Iterator[Said]:
    function, given, returned = _only_function(params), *_ends(params)
    claim = {
        "type": "input-output", "function": function.name,
        "input": _input(function.name, given), "output": _output(returned, _path(returned)),
    }  # fmt: skip
    yield Said(claim, function.inputs, function.lost)


def _threshold(params: Sequence[Param]) -> Iterator[Said]:
    function, given, returned = _only_function(params), *_ends(params)
    name = _input(function.name, given)
    bounds = [bound for bound in ("min", "max") if bound in name.lower()]
    if len(bounds) != 1:
        raise CannotSay(f"a threshold {name!r} that is neither a min nor a max")
    path, sizes = _path(returned), []
    if path[-1:] in (["1"], ["-1"]) and path[-2:-1] == ["shape"]:
        path, sizes = path[:-1], path[-1:]
    claim = {
        "type": "threshold", "function": function.name, "output": _output(returned, path),
        "input": name, "bound": bounds[0],
    }  # fmt: skip
    taken = ["that size 1 is not the last"] if sizes == ["1"] else []
    yield Said(claim, function.inputs, function.lost + taken)


def _consistent(params: Sequence[Param]) -> Iterator[Said]:
    pair = _of(params, VariableParam)
    if len(pair) != 2 or not all(isinstance(one, VarNameParam) for one in pair):
        raise CannotSay("any two variables of a class; ours are named")
    if any(one.attr_name != DATA for one in pair):
        raise CannotSay(f"equal {pair[0].attr_name} and {pair[1].attr_name} of two variables")
    one, other = (one.var_name for one in pair if isinstance(one, VarNameParam))
    yield Said({"type": "consistent", "one": one, "other": other})


def _change(function: str, variable: VariableParam) -> dict[str, Any]:
    """Some variable becomes another, or what is told: a change there is of any one of them."""
    if isinstance(variable, VarNameParam):
        raise CannotSay(f"a change of the variable {variable.var_name} alone")
    kind = KINDS.get(variable.attr_name)
    if variable.var_type != PARAMETER_TYPE or kind is None:
        raise CannotSay(f"a change of {variable.attr_name} of {variable.var_type}")
    value = "" if variable.post_value is UNSET else variable.post_value
    becomes = FACTS.get(value) if isinstance(value, str | None) else None
    if becomes is None:
        raise CannotSay(f"that {variable.attr_name} becomes {value!r}")
    return {
        "type": "changes", "function": function, "variables": kind, "to": becomes, "every": False,
    }  # fmt: skip


_READERS: dict[str, Callable[[Sequence[Param]], Iterator[Said]]] = {
    "APIContainRelation": _contains,
    "FunctionLeadRelation": _lead,
    "FunctionCoverRelation": _cover,
    "ConsistentOutputRelation": _constant_output,
    "ConsistentInputOutputRelation": _input_output,
    "DistinctArgumentRelation": _distinct,
    "ThresholdRelation": _threshold,
    "ConsistencyRelation": _consistent,
}


# ---------------------------------------------------------------- parameters


def _function(param: Param) -> _Function:
    if not isinstance(param, ApiParam):
        raise CannotSay(f"a {type(param).__name__} where a function belongs")
    if param.exception not in (UNSET, None, "NoneType"):
        raise CannotSay(f"a call of {param.api_full_name} that raises")
    named = ours(param.api_full_name)
    arguments = {} if param.arguments is UNSET else dict(param.arguments)
    arguments.pop("func_name", None)
    given = [arguments.pop(kind, {}) for kind in ("args", "kwargs")]
    if not all(isinstance(each, dict) for each in given):
        raise CannotSay(f"arguments {given!r}")
    inputs, lost = pattern_of({**given[0], **given[1]})
    return _Function(named.function, {**inputs, **named.inputs}, lost + list(arguments))


def _only_function(params: Sequence[Param]) -> _Function:
    found = _of(params, ApiParam)
    if len(found) != 1:
        raise CannotSay(f"{len(found)} functions where one belongs")
    return _function(found[0])


def _of(params: Sequence[Param], kind: type[Kind]) -> list[Kind]:
    return [param for param in params if isinstance(param, kind)]


def _ends(params: Sequence[Param]) -> tuple[InputOutputParam, InputOutputParam]:
    """The value that is given, and the one that is returned."""
    found = sorted(_of(params, InputOutputParam), key=lambda one: not one.is_input)
    if [one.is_input for one in found] != [True, False]:
        raise CannotSay("other values than one given and one returned")
    return found[0], found[1]


def _input(function: str, param: InputOutputParam) -> str:
    name = param.name
    if name is None:
        if param.index is None:
            raise CannotSay("an input without a name or position")
        names = parameter_names(function)
        name = names[param.index] if param.index < len(names) else str(param.index)
    return _property(name, _path(param))


def _output(param: InputOutputParam, path: list[str]) -> str:
    return _property(RESULT, [*([str(param.index)] if param.index else []), *path])


def _property(root: str, path: list[str]) -> str:
    """Of a value, the items at some positions, and of those one attribute that we know."""
    *positions, last = path or [""]
    if not all(one.isdigit() for one in positions) or not (
        last in ("", *ATTRIBUTES) or last.isdigit()
    ):
        raise CannotSay(f"{'.'.join(path)} of a value")
    return ".".join([root, *path])


def _path(param: InputOutputParam) -> list[str]:
    path = param.additional_path
    if path in (None, "None"):
        return []
    return [path] if isinstance(path, str) else [str(part) for part in path or ()]
