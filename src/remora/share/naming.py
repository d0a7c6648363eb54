"""A name with options in one word, as a user writes it: ``priority:floor=10%``.

Options are the fields of a dataclass. A field that ends in ``_ns`` is written as a time, without
its ending; one of type ``str`` as it is; any other as a share or a number. Underscores are written
as hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from remora.core.errors import BadValue, UnknownName
from remora.core.units import parse_fraction, parse_ns

Value = int | float | str
Given = dict[str, Any]
"""A :data:`Value` for each field."""


def read_named(kind: str, text: str, options: Mapping[str, type[Any]]) -> tuple[str, Given]:
    """The name in ``text``, and the fields that it sets. ``options`` has a dataclass a name.

    Raises:
        UnknownName: no such name, or it has no such option.
        BadValue: an option without a value, or one that is not of its kind.
    """
    name, _, rest = text.partition(":")
    if name not in options:
        raise UnknownName(kind, name, options)
    by_word = {_word(each.name): each for each in fields(options[name])}
    given: Given = {}
    for part in filter(None, rest.split(",")):
        word, is_given, value = (each.strip() for each in part.partition("="))
        if word not in by_word:
            raise UnknownName(f"option of {kind} {name}", word, by_word)
        if not is_given:
            raise BadValue(f"option {word} of {kind} {name} has no value; write {word}=VALUE")
        try:
            given[by_word[word].name] = _value(by_word[word], value)
        except BadValue as error:
            raise BadValue(f"option {word} of {kind} {name}: {error}") from None
    return name, given


def written(name: str, given: Mapping[str, Value]) -> str:
    """As :func:`read_named` reads it."""
    options = ",".join(f"{_word(each)}={_said(each, value)}" for each, value in given.items())
    return f"{name}:{options}" if options else name


def _word(field_name: str) -> str:
    return field_name.removesuffix("_ns").replace("_", "-")


def _value(option: Field[Any], text: str) -> Value:
    if option.type in (str, "str"):
        return text
    if option.name.endswith("_ns"):
        return parse_ns(text)
    return 0.0 if text in ("0", "0%") else parse_fraction(text)


def _said(option: str, value: Value) -> str:
    if isinstance(value, str):
        return value
    if not value:
        return "0"
    if option.endswith("_ns"):
        return f"{value / 1e6:g}ms"
    return f"{value * 100:g}%" if value < 1 else f"{value:g}"
