"""Every mechanism by name, with the options that a user gives it in one word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from remora.core.errors import NotPermitted
from remora.share.gate.device import has_nvidia
from remora.share.naming import read_named, written
from remora.share.system.mechanisms.cgroup import Cgroup
from remora.share.system.mechanisms.contract import Context, Mechanism
from remora.share.system.mechanisms.gate import Gate
from remora.share.system.mechanisms.idle import Idle
from remora.share.system.mechanisms.nice import Nice
from remora.share.system.mechanisms.nothing import Nothing
from remora.share.system.mechanisms.stop import Stop

MECHANISMS: Mapping[str, type[Mechanism]] = {
    each.name: each for each in (Idle, Nice, Cgroup, Stop, Gate, Nothing)
}


def default_name() -> str:
    """How a job gives way that says nothing: by the gate where an NVIDIA device is."""
    return Gate.name if has_nvidia() else Idle.name


@dataclass(frozen=True)
class Choice:
    """A mechanism as a user names it, checked when it is made."""

    name: str = field(default_factory=default_name)
    options: Mapping[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.create()

    def create(self) -> Mechanism:
        mechanism = MECHANISMS[self.name]
        return mechanism(mechanism.made_of(self.options))

    def __str__(self) -> str:
        return written(self.name, self.options)


def parse_choice(text: str) -> Choice:
    """The mechanism that ``text`` names, ``NAME`` or ``NAME:OPTION=VALUE,…``.

    Raises:
        UnknownName: no such mechanism or option.
        BadValue: an option without a value, or one that cannot be.
    """
    _, _, options = text.partition(":")
    types = {name: mechanism.words(options) for name, mechanism in MECHANISMS.items()}
    return Choice(*read_named("mechanism", text, types))


def applied(choice: Choice, context: Context, say: Callable[[str], object]) -> Mechanism:
    """The first of ``choice`` and what it falls back to that is permitted. It acts already.

    ``say`` hears of each that is not, and of what comes instead.
    """
    mechanism = choice.create()
    while True:
        try:
            mechanism.apply(context)
        except NotPermitted as error:
            name = mechanism.falls_back_to
            say(f"{error}; {name} instead")
            mechanism = MECHANISMS[name]()
        else:
            return mechanism
