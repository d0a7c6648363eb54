"""A line of TrainCheck's file of invariants, by schema."""

from __future__ import annotations

from typing import Any

import msgspec

from remora.check.traincheck.clauses import Precondition

UNSET = msgspec.UNSET


class ApiParam(
    msgspec.Struct,
    tag="APIParam",
    tag_field="param_type",
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
):
    """A function; with ``arguments``, only calls that were given these."""

    api_full_name: str
    exception: Any = UNSET
    arguments: dict[str, Any] | msgspec.UnsetType = UNSET


class VariableParam(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An attribute of a variable, and what it is or becomes."""

    attr_name: str
    var_type: str | msgspec.UnsetType = UNSET
    pre_value: Any = UNSET
    post_value: Any = UNSET
    const_value: Any = UNSET


class VarTypeParam(VariableParam, tag="VarTypeParam", tag_field="param_type"):
    """Variables of one class."""


class VarNameParam(VariableParam, tag="VarNameParam", tag_field="param_type"):
    """One variable."""

    var_name: str


class InputOutputParam(
    msgspec.Struct,
    tag="InputOutputParam",
    tag_field="param_type",
    forbid_unknown_fields=True,
    kw_only=True,
):
    """A value that a call is given or returns: by name or position, and the path within it."""

    name: str | None = None
    index: int | None = None
    type: str | None = None
    additional_path: list[str | int] | str | None = None
    api_name: str | None = None
    is_input: bool


Param = ApiParam | VarTypeParam | VarNameParam | InputOutputParam


class InvariantLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is told of an invariant. The parameters are read once the relation is known."""

    text_description: str | None = None
    relation: str
    params: list[msgspec.Raw]
    precondition: dict[str, msgspec.Raw] | None
    num_positive_examples: int | None = None
    num_negative_examples: int | None = None


class WrittenLine(msgspec.Struct, kw_only=True):
    """The same with everything in it, to be written."""

    text_description: str
    relation: str
    params: list[Param]
    precondition: dict[str, Precondition]
    num_positive_examples: int
    num_negative_examples: int
