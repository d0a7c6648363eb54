"""The lines of a trace, by schema: a header, then events in the order in which they happened.

A line is a JSON array that begins with its kind, so that a file can be read with any tool. Names of
functions, threads and dicts of properties are written once and then go by number. On MNIST that is
30 bytes an event, a seventh of what it is with everything spelled out; MessagePack would save a
third of those, is no faster to write, and has no lines to name where a file is damaged.

========== ====================================================================
kind       what follows it
========== ====================================================================
function   number, name: this number stands for this function from here on
thread     number, the thread's own number
properties number, ``{property: value}``
begin      function, order, thread, parent's order, step, inputs, context
end        order of the call, outputs, whether it failed
step       number of the step that is over
ended      exit code of the program, null where nobody told
========== ====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

FORMAT = "remora-trace"
VERSION = 1
MOST_NUMBERS = 16_384
"""Names of one kind known at a time: what a reader has to hold. A writer that has used them all
begins anew at zero; what a number stood for is then forgotten."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: a JSON object."""

    format: str = FORMAT
    version: int = VERSION
    program: str = ""
    rank: int = 0
    pid: int = 0
    torch: str | None = None


class Odd(msgspec.Struct, frozen=True, tag_field="odd", tag="float", forbid_unknown_fields=True):
    """A float that JSON has no number for: ``nan``, ``inf`` or ``-inf``."""

    value: str


class OddText(msgspec.Struct, frozen=True, tag_field="odd", tag="text", forbid_unknown_fields=True):
    """A text that is no valid Unicode (a file's name, say), as hexadecimal bytes."""

    value: str


Plain = None | bool | int | float | str | Odd | OddText
Value = Plain | tuple[Plain | tuple[Plain, ...], ...]


class FunctionName(
    msgspec.Struct, frozen=True, array_like=True, tag="function", forbid_unknown_fields=True
):
    number: int
    name: str


class ThreadNumber(
    msgspec.Struct, frozen=True, array_like=True, tag="thread", forbid_unknown_fields=True
):
    number: int
    thread: int


class PropertiesOf(
    msgspec.Struct, frozen=True, array_like=True, tag="properties", forbid_unknown_fields=True
):
    number: int
    values: dict[str, Value]


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin", forbid_unknown_fields=True):
    function: int
    order: int
    thread: int
    parent: int | None
    step: int
    inputs: int
    context: int


class End(msgspec.Struct, frozen=True, array_like=True, tag="end", forbid_unknown_fields=True):
    order: int
    outputs: int
    failed: bool


class StepEnded(
    msgspec.Struct, frozen=True, array_like=True, tag="step", forbid_unknown_fields=True
):
    step: int


class RunEnded(
    msgspec.Struct, frozen=True, array_like=True, tag="ended", forbid_unknown_fields=True
):
    exit_code: int | None


Event = FunctionName | ThreadNumber | PropertiesOf | Begin | End | StepEnded | RunEnded
"""To add a kind of event: its struct here, a method of the recorder, one of the replay."""


def spelled(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with what JSON cannot say spelled out."""
    return {name: _spell(value) for name, value in values.items()}


def unspelled(values: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`spelled` was given.

    Raises:
        ValueError: it gives none such.
    """
    return {name: _unspell(value) for name, value in values.items()}


def is_odd(values: tuple[Any, ...]) -> bool:
    """Whether there is a number among ``values``, or in a tuple of them, that is not finite."""
    for value in values:
        kind = type(value)
        if (kind is float and not math.isfinite(value)) or (kind is tuple and is_odd(value)):
            return True
    return False


def _spell(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_spell, value))
    if isinstance(value, float) and not math.isfinite(value):
        return Odd(str(value))
    if isinstance(value, str) and not _is_unicode(value):
        return OddText(value.encode("utf-8", "surrogatepass").hex())
    return value


def _unspell(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_unspell, value))
    if type(value) is Odd:
        return float(value.value)
    if type(value) is OddText:
        return bytes.fromhex(value.value).decode("utf-8", "surrogatepass")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
