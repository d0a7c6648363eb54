"""Every policy by name, with the options that a user gives it in one word.

``priority+slicing:turnaround=1ms,floor=10%`` is a name, then options: times as people write them,
shares as percentages or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from remora.core.errors import UnknownName
from remora.share.naming import read_named, written
from remora.share.policies.complementary import Complementary
from remora.share.policies.contract import Policy
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
        return written(self.name, self.options)


def parse_choice(text: str) -> Choice:
    """The policy that ``text`` names, ``NAME`` or ``NAME:OPTION=VALUE,…``.

    Raises:
        UnknownName: no such policy or option.
        BadValue: an option without a value, or one that cannot be.
    """
    types = {name: policy.options_type for name, policy in POLICIES.items()}
    return Choice(*read_named("policy", text, types))
