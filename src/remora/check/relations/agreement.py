"""Agreement: every rank gives a collective the same.

A collective of ranks that pass it other shapes, types or counts stalls, ends the process, or moves
something else than was meant.

Learned from: what each rank gave to the functions in :data:`COLLECTIVES`, beside what the first
gave at the same call of the same process group, counted from the job's start: shapes, dtypes,
numbers, names, lists of sizes. What was the same at every call is told; what was so at some, with
the context and switches that tell these from the others, if they do.

Checked: as the call begins, before the collective itself, by every rank but the first to come to
it. A job that is about to stall is told of before it does.

TrainCheck (OSDI'25) has no such relation: of two ranks it compares variables alone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from remora.check.calls import Call
from remora.check.conditions import ABSENT, same
from remora.check.examples import Occasions
from remora.check.ranks.meeting import Meeting
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule
from remora.check.relations.each_call import circumstances

COLLECTIVES = frozenset(
    f"torch.distributed.{name}"
    for name in (
        "all_gather", "all_gather_coalesced", "all_gather_into_tensor", "all_gather_object",
        "all_reduce", "all_reduce_coalesced", "all_to_all", "all_to_all_single", "barrier",
        "broadcast", "broadcast_object_list", "gather", "gather_object", "reduce",
        "reduce_scatter", "reduce_scatter_tensor", "scatter", "scatter_object_list",
    )
)  # fmt: skip
GROUP = "group.ranks"
_SAID = (".shape", ".dtype", ".length")
_Numbers = dict[tuple[str, str], Iterator[int]]


class Agreement(Claim, frozen=True, tag="agreement"):
    function: str
    property: str

    def words(self) -> str:
        return f"every rank gives {self.function} the same {self.property}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.property, GROUP})}


class AgreementLearner(Learner):
    def __init__(self) -> None:
        self._meeting: Meeting | None = None
        self._numbers = _numbers()
        self._occasions: dict[str, Occasions[str]] = defaultdict(Occasions)

    def join(self, meeting: Meeting | None) -> None:
        self._meeting = meeting

    def begin(self, call: Call) -> None:
        if self._meeting is None or call.function not in COLLECTIVES:
            return
        own = {name: value for name, value in call.inputs.items() if _is_told(name, value)}
        other = _first(self._meeting, self._numbers, call, own)
        if other is None:
            return
        given = other[1]
        agreed = {name for name, value in own.items() if same(value, given.get(name, ABSENT))}
        self._occasions[call.function].add(_circumstances(call), agreed)

    def run_ended(self) -> None:
        self._meeting, self._numbers = None, _numbers()

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, occasions in self._occasions.items():
            for found in occasions.found(fewest):
                claim = Agreement(name, found.thing)
                yield Learned(claim, found.when, found.support, found.against)


class AgreementMachine(Machine):
    claims = Agreement

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._meeting: Meeting | None = None
        self._numbers = _numbers()
        self._by_function: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_function[rule.claim.function].append(rule)

    def join(self, meeting: Meeting) -> None:
        self._meeting = meeting

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._beginning(rules) for name, rules in self._by_function.items()}

    def _beginning(self, rules: Sequence[Rule]) -> Callable[[Call], None]:
        told = sorted({rule.claim.property for rule in rules})

        def begin(call: Call) -> None:
            if self._meeting is None:
                return
            own = {name: call.inputs[name] for name in told if name in call.inputs}
            other = _first(self._meeting, self._numbers, call, own)
            if other is not None:
                _judge(rules, call, own, *other)

        return begin


def _judge(
    rules: Sequence[Rule], call: Call, own: Mapping[str, Any], rank: int, others: Mapping[str, Any]
) -> None:
    for rule in rules:
        name = rule.claim.property
        if name not in own or name not in others or not rule.concerns(call):
            continue
        rule.triggered += 1
        if not same(own[name], others[name]):
            seen = f"{name} is {own[name]!r} here and {_shown(others[name])!r} on rank {rank}"
            rule.report(seen, call)


def _first(
    meeting: Meeting, numbers: _Numbers, call: Call, own: Mapping[str, Any]
) -> tuple[int, dict[str, Any]] | None:
    """The rank that came first to this call, and what it gave."""
    ranks: tuple[int, ...] = call.inputs.get(GROUP, ())
    group = "-".join(map(str, ranks)) if 0 < len(ranks) < meeting.world else "all"
    number = next(numbers[call.function, group])
    said = meeting.first(f"{call.function}/{group}", number, msgspec.msgpack.encode(own))
    return (said.rank, msgspec.msgpack.decode(said.words)) if said is not None else None


def _numbers() -> _Numbers:
    """By function and group, the number of the next call."""
    return defaultdict(itertools.count)


def _is_told(name: str, value: Any) -> bool:
    """Whether it says what moves: no switch of how the call is made, and no identity."""
    if name.endswith(_SAID):
        return True
    return "." not in name and type(value) in (int, float, str, tuple)


def _circumstances(call: Call) -> dict[str, Any]:
    """Without the rank: the ranks that are compared are two."""
    return {name: value for name, value in circumstances(call).items() if name != "rank"}


def _shown(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
