"""TrainCheck's preconditions as our conditions, and back.

What a condition may rest on there: ``process_id``, ``thread_id``, ``meta_vars.…``, ``var_name``,
``var_type``, ``function``, ``exception``, ``attributes.…`` and context managers (OSDI'25, section
3.4). Those that we have in other words are turned into these:

=============================================  ==========================================
``meta_vars.stage``                            ``phase``: init is start, training is train,
                                               any kind of evaluation is eval
within no_grad or inference_mode               ``grad`` is False
within autocast                                ``autocast``: its dtype
within any other context manager               within it
=============================================  ==========================================

The others keep their names. A trace has them; a running job has not, nor does it tell of other
context managers, so that such a condition is never met there: :func:`unmet_live` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from remora.check.conditions import Clause, Condition, Consistent, Constant, Unequal, Within
from remora.check.observe.context import MANAGERS
from remora.check.traincheck.arguments import CannotSay, arguments_of, json_value, pattern_of

UNCONDITIONAL = "Unconditional"
_CONTEXTS = "context_managers."
_STAGES = {
    "init": "start", "training": "train", "testing": "eval", "evaluation": "eval",
    "validation": "eval", "inference": "eval",
}  # fmt: skip
_STAGE = "meta_vars.stage"
_FOREIGN = frozenset(
    {"process_id", "thread_id", "function", "exception", "type", "var_name", "var_type"}
)
_FOREIGN_PREFIXES = ("meta_vars.", "attributes.", "context.")
IN_EVERY_CALL = frozenset({"process_id", "thread_id", "function", "type", "meta_vars.step"})
"""What a clause about a single call need not ask for."""
WITHIN_A_STEP = IN_EVERY_CALL - {"thread_id"}
"""What calls of one function in one step and process share."""
_GRAD_OFF = ("no_grad", "inference_mode")
_NO_GRAD = "torch.autograd.grad_mode.no_grad"
_AUTOCAST = "torch.amp.autocast_mode.autocast"
_AUTOCAST_DTYPES = ("torch.bfloat16", "torch.float16")


class ClauseLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A clause as it is in the file."""

    type: str
    prop_name: str
    additional_path: str | list[str | int] | None = "None"
    prop_dtype: str | None = None
    values: Any = msgspec.UNSET


class Clauses(msgspec.Struct, forbid_unknown_fields=True):
    clauses: str | list[ClauseLine]


class Precondition(msgspec.Struct, forbid_unknown_fields=True):
    """A disjunction of conjunctions, perhaps negated as a whole."""

    inverted: bool
    preconditions: list[Clauses]


# ---------------------------------------------------------------- theirs, as a condition


def condition_of(precondition: Precondition, trivial: frozenset[str] = frozenset()) -> Condition:
    """The condition that ``precondition`` says.

    Args:
        trivial: properties that are there, and the same, in whatever it is judged on.

    Raises:
        CannotSay: it rests on what can be told in no run of ours.
    """
    any_of = tuple(_conjunction(each.clauses, trivial) for each in precondition.preconditions)
    condition = Condition(any_of=any_of, inverted=precondition.inverted)
    if condition.inverted and (unknown := foreign(condition)):
        raise CannotSay(f"a negated condition on {unknown[0]}, which a running job does not have")
    return condition


def _conjunction(clauses: str | list[ClauseLine], trivial: frozenset[str]) -> tuple[Clause, ...]:
    if clauses == UNCONDITIONAL:
        return ()
    if isinstance(clauses, str):
        raise CannotSay(f"clauses {clauses!r}")
    found = (_clause(one, trivial) for one in clauses)
    return tuple(clause for clause in found if clause is not None)


def _clause(line: ClauseLine, trivial: frozenset[str]) -> Clause | None:
    """None for one that holds of whatever it may be about."""
    read = _READERS.get(line.type)
    if read is None:
        raise CannotSay(f"a clause of type {line.type!r}")
    if line.type in ("consistent", "exist") and line.prop_name in trivial:
        return None
    return read(line)


def _constant(line: ClauseLine) -> Clause:
    name = _property(line)
    if line.values is msgspec.UNSET:
        raise CannotSay(f"a constant {name} without a value")
    values = line.values if isinstance(line.values, list) else [line.values]
    if name == "phase":
        values = list(dict.fromkeys(map(phase_of, values)))
    elif line.prop_dtype == "bool":
        values = [bool(value) for value in values]
    return Constant(name, tuple(values))


def _exist(line: ClauseLine) -> Clause:
    if not line.prop_name.startswith(_CONTEXTS):
        return Consistent(_property(line))  # of one member, that it is there
    name = line.prop_name.removeprefix(_CONTEXTS)
    arguments = _arguments_of(line.values)
    last = name.rpartition(".")[2]
    if last in _GRAD_OFF:
        return Constant("grad", (False,))
    if last == "autocast":
        dtype = arguments.get("dtype")
        return Constant("autocast", (dtype,) if dtype else _AUTOCAST_DTYPES)
    return Within(name, arguments)


def _arguments_of(values: Any) -> dict[str, Any]:
    """Arguments that a context manager was entered with, written ``{name: {type: value}}``."""
    if isinstance(values, list) and len(values) == 1:
        values = values[0]
    if values is msgspec.UNSET or not values:
        return {}
    if not isinstance(values, dict):
        raise CannotSay(f"a context manager with {values!r}")
    found, lost = pattern_of(values)
    if lost:
        raise CannotSay(f"a context manager with {lost[0]}")
    return found


_READERS: dict[str, Callable[[ClauseLine], Clause]] = {
    "constant": _constant,
    "consistent": lambda line: Consistent(_property(line)),
    "unequal": lambda line: Unequal(_property(line)),
    "exist": _exist,
}


def _property(line: ClauseLine) -> str:
    path = [] if line.additional_path in (None, "None") else line.additional_path
    parts = [path] if isinstance(path, str) else [str(part) for part in path or ()]
    return "phase" if line.prop_name == _STAGE else ".".join([line.prop_name, *parts])


def phase_of(stage: object) -> str:
    """Our word for a stage; one without has its own."""
    return _STAGES.get(str(stage), str(stage))


# ---------------------------------------------------------------- what a running job has not


def foreign(condition: Condition) -> list[str]:
    """The properties in it that only a trace has."""
    return sorted(filter(is_foreign, condition.properties()))


def is_foreign(name: str) -> bool:
    """Whether only a trace has the property."""
    return name not in MANAGERS and (name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES))


def unmet_live(condition: Condition) -> bool:
    """Whether no running job can meet it."""
    return (
        all(foreign(Condition(any_of=(clauses,))) for clauses in condition.any_of)
        and not condition.inverted
    )


# ---------------------------------------------------------------- a condition, as theirs


def precondition_of(condition: Condition) -> Precondition:
    """``condition`` in TrainCheck's words.

    Raises:
        CannotSay: it rests on something that no clause there can name.
    """
    each = [Clauses(list(map(_line, clauses)) or UNCONDITIONAL) for clauses in condition.any_of]
    return Precondition(inverted=condition.inverted, preconditions=each)


def _line(clause: Clause) -> ClauseLine:
    if isinstance(clause, Within):
        return _context(clause.context, arguments_of(clause.arguments))
    if isinstance(clause, Constant):
        return _constant_line(clause)
    kind = "consistent" if isinstance(clause, Consistent) else "unequal"
    return ClauseLine(type=kind, prop_name=_their_name(clause.property))


def _constant_line(clause: Constant) -> ClauseLine:
    name, values = clause.property, clause.values
    if name == "grad" and values == (False,):
        return _context(_NO_GRAD, {})
    if name == "autocast":
        return _autocast(values)
    if name == "phase":
        values = tuple(stage for value in values for stage in _stages(value))
    return ClauseLine(
        type="constant",
        prop_name=_their_name(name),
        prop_dtype=_dtype_of(values),
        values=json_value(list(values)),
    )


def _dtype_of(values: tuple[Any, ...]) -> str | None:
    kinds = {type(value).__name__ for value in values}
    return kinds.pop() if len(kinds) == 1 else None


def _stages(phase: Any) -> list[Any]:
    return [stage for stage, known in _STAGES.items() if known == phase] or [phase]


def _autocast(values: tuple[Any, ...]) -> ClauseLine:
    if sorted(map(str, values)) == sorted(_AUTOCAST_DTYPES):
        return _context(_AUTOCAST, {})
    if len(values) != 1 or values[0] is None:
        raise CannotSay(f"a condition that autocast is {' or '.join(map(str, values))}")
    return _context(_AUTOCAST, arguments_of({"dtype": values[0]}))


def _context(name: str, arguments: dict[str, Any]) -> ClauseLine:
    return ClauseLine(
        type="exist", prop_name=f"{_CONTEXTS}{name}", values=arguments or msgspec.UNSET
    )


def _their_name(name: str) -> str:
    if name == "phase":
        return _STAGE
    if not is_foreign(name):
        raise CannotSay(f"a condition on {name}")
    return name
