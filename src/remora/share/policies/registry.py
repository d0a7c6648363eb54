"""Every policy by name, with the options that a user gives it in one word.

``priority+slicing:turnaround=1ms,floor=10%`` is a name, then options: times as people write them,
shares as percentages or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from remora.core.errors import BadValue, UnknownName
from remora.core.units import parse_fraction, parse_seconds
from remora.share.policies.complementary import Complementary
from remora.share.policies.contract import Options, Policy
from remora.share.policies.earliest_deadline import EarliestDeadline
from remora.share.policies.fifo import Fifo
from remora.share.policies.min_wait import MinWait
from remora.share.policies.priority import StrictPriority
from remora.share.policies.priority_slicing import PrioritySlicing
from remora.share.policies.rate_control import RateControl
from remora.share.policies.round_robin import RoundRobin

POLICIES: Mapping[str, type[Policy]] = {
    each.name: each
    for each in (
        *(Fifo, RoundRobin, StrictPriority, MinWait, PrioritySlicing),
        *(RateControl, Complementary, EarliestDeadline),
    )
}


def names() -> list[str]:
    """Every policy, from what a device does by itself to what a user may ask for."""
    return list(POLICIES)


def find(name: str) -> type[Policy]:
    """The policy called ``name``.

    Raises:
        UnknownName: there is none.
    """
    if name not in POLICIES:
        raise UnknownName("policy", name, POLICIES)
    return POLICIES[name]


def create(
    name: str, options: Mapping[str, int | float] | None = None, *, capacity: int | None = None
) -> Policy:
    """A new policy. ``options`` are fields of its options, ``min_wait_ns`` and the like.

    Raises:
        UnknownName: no such policy, or it has no option of that name.
        BadValue: an option that cannot be.
    """
    policy = find(name)
    given: dict[str, Any] = dict(options or {})
    valid = [each.name for each in fields(policy.options_type)]
    for option in given:
        if option not in valid:
            raise UnknownName(f"option of policy {name}", option, valid)
    chosen = policy.options_type(**given)
    return policy(chosen) if capacity is None else policy(chosen, capacity=capacity)


@dataclass(frozen=True)
class Choice:
    """A policy as a user names it, checked when it is made. Each device gets one of its own."""

    name: str
    options: Mapping[str, int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.create()

    def create(self) -> Policy:
        return create(self.name, self.options)

    def __str__(self) -> str:
        given = ",".join(
            f"{_word(name)}={_said(name, self.options[name])}" for name in self.options
        )
        return f"{self.name}:{given}" if given else self.name


def parse_choice(text: str) -> Choice:
    """The policy that ``text`` names, ``NAME`` or ``NAME:OPTION=VALUE,…``.

    Raises:
        UnknownName: no such policy or option.
        BadValue: an option without a value, or one that cannot be.
    """
    name, _, rest = text.partition(":")
    by_word = {_word(each.name): each.name for each in fields(find(name).options_type)}
    options: dict[str, int | float] = {}
    for given in filter(None, rest.split(",")):
        word, is_given, value = (part.strip() for part in given.partition("="))
        if word not in by_word:
            raise UnknownName(f"option of policy {name}", word, by_word)
        if not is_given:
            raise BadValue(f"option {word} of policy {name} has no value; write {word}=VALUE")
        options[by_word[word]] = _value(by_word[word], value)
    return Choice(name, options)


def default_options(policy: type[Policy]) -> Options:
    """The options of ``policy`` as they are when nobody sets any."""
    return policy.options_type()


def _word(field_name: str) -> str:
    return field_name.removesuffix("_ns").replace("_", "-")


def _value(option: str, text: str) -> int | float:
    if option.endswith("_ns"):
        return round(parse_seconds(text) * 1e9)
    return parse_fraction(text) if text not in ("0", "0%") else 0.0


def _said(option: str, value: int | float) -> str:
    """As :func:`parse_choice` reads it."""
    if not value:
        return "0"
    return f"{value / 1e6:g}ms" if option.endswith("_ns") else f"{value * 100:g}%"
