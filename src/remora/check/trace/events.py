"""The lines of a trace, by schema: a header, then events in the order in which they happened.

A line is a JSON array that begins with its kind, so that a file can be read with any tool. What
repeats is written once and then goes by number: names of functions, threads, dicts of properties,
what a call did to variables. On MNIST an event takes 45 bytes, a fifth of what it is with all of it
spelled out; MessagePack would save a third of those, is no faster to write, and has no lines to
name where a file is damaged.

============ =====================================================================================
kind         what follows it
============ =====================================================================================
function     number, name, whether variables are looked at: what the number stands for from here on
thread       number, the thread's own number
properties   number, ``{property: value}``
observations number, and of each variable its name, properties, whether it is in use and None, and
             whether it changed, is zero and is finite
names        number, names of variables or of what is measured
begin        function, order, thread, parent's order, step, inputs, context, identities
end          order of the call, outputs, whether it failed, identities
changed      order of the call, observations
numbers      order of the call, names, the number of each
compare      step, names, what stands for the content of each
step         number of the step that is over
ended        exit code of the program, null where nobody told
============ =====================================================================================

An identity, or the digest of a batch, is another with every call, so it is not among the
properties: there its place is held by ``{"odd": "identity"}``, and the call lists what goes there,
in order. Equal numbers are one object, one piece of memory or equal batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

FORMAT = "remora-trace"
VERSION = 1
MOST_NUMBERS = 16_384
"""Things of one kind known at a time: what a reader has to hold. A writer that has used them all
begins anew at zero; what a number stood for is then forgotten."""
MOST_LISTS = 256
"""The same for lists, of names or of observations, which are as long as a model has variables."""
IDENTITY, DIGEST = ".identity", ".digest"
"""How the properties end that are one."""


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


class Identity(
    msgspec.Struct, frozen=True, tag_field="odd", tag="identity", forbid_unknown_fields=True
):
    """The place of an identity or digest."""


Plain = None | bool | int | float | str | Odd | OddText | Identity
Value = Plain | tuple[Plain | tuple[Plain, ...], ...]


class FunctionName(
    msgspec.Struct, frozen=True, array_like=True, tag="function", forbid_unknown_fields=True
):
    number: int
    name: str
    looked: bool = False


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


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One variable at one call; its properties by number."""

    name: str
    properties: int
    in_use: bool
    none: bool
    changed: bool | None
    zero: bool | None
    finite: bool | None


class ObservationList(
    msgspec.Struct, frozen=True, array_like=True, tag="observations", forbid_unknown_fields=True
):
    number: int
    seen: tuple[Seen, ...]


class NameList(
    msgspec.Struct, frozen=True, array_like=True, tag="names", forbid_unknown_fields=True
):
    number: int
    names: tuple[str, ...]


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin", forbid_unknown_fields=True):
    function: int
    order: int
    thread: int
    parent: int | None
    step: int
    inputs: int
    context: int
    identities: tuple[int, ...] = ()


class End(msgspec.Struct, frozen=True, array_like=True, tag="end", forbid_unknown_fields=True):
    order: int
    outputs: int
    failed: bool
    identities: tuple[int, ...] = ()


class Changed(
    msgspec.Struct, frozen=True, array_like=True, tag="changed", forbid_unknown_fields=True
):
    order: int
    observations: int


class Measured(
    msgspec.Struct, frozen=True, array_like=True, tag="numbers", forbid_unknown_fields=True
):
    order: int
    names: int
    values: tuple[float | Odd, ...]


class Compare(
    msgspec.Struct, frozen=True, array_like=True, tag="compare", forbid_unknown_fields=True
):
    step: int
    names: int
    contents: tuple[int, ...]


class StepEnded(
    msgspec.Struct, frozen=True, array_like=True, tag="step", forbid_unknown_fields=True
):
    step: int


class RunEnded(
    msgspec.Struct, frozen=True, array_like=True, tag="ended", forbid_unknown_fields=True
):
    exit_code: int | None


Event = (
    FunctionName
    | ThreadNumber
    | PropertiesOf
    | ObservationList
    | NameList
    | Begin
    | End
    | Changed
    | Measured
    | Compare
    | StepEnded
    | RunEnded
)
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


def spelled_number(value: float) -> float | Odd:
    return value if math.isfinite(value) else Odd(str(value))


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
