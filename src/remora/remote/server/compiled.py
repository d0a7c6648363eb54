"""One function for each step of a plan: it looks at memories, computes, keeps, and lets go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import torch

from remora.remote.graph.asked import Asked
from remora.remote.graph.bindings import BINDINGS
from remora.remote.graph.indices import check_of, looked_at
from remora.remote.graph.nodes import Named
from remora.remote.graph.operators import NAMED, object_of
from remora.remote.graph.program import NodeFailed
from remora.remote.segment.guards import given, index_check
from remora.remote.segment.operators import Operator, operator_named
from remora.remote.segment.plan import (
    FETCH,
    PUT,
    WEIGHT,
    Made,
    Part,
    Plan,
    Scalar,
    Seen,
    Several,
    given_in_part,
)
from remora.remote.segment.shapes import leaves_unfilled, made_values, makes_out_of_nothing
from remora.remote.segment.validation import Step
from remora.remote.server.layout import check_is, laid_out, view_of
from remora.remote.server.memories import Memories
from remora.remote.server.places import Places, Values


class Given:
    """What one run has beside its memories."""

    def __init__(self, tensors: Sequence[torch.Tensor], weights: Callable[[str], Any]) -> None:
        self.tensors = iter(tensors)
        self.weights = weights
        """Holds the weight of a digest."""
        self.fetched: list[torch.Tensor] = []


Action = Callable[[Values, Given], None]


class Compiled:
    """A plan ready to run on ``device``. Immutable; the values of a run are its own.

    Raises:
        Refused: the plan is not right. Its signatures have been checked.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.device, self.memories = device, Memories(plan)
        self.places = Places(self.memories)
        self.read: list[Sequence[int]] = []
        """For each step the places of the tensors and scalars it is given, in order."""
        self.actions = [_action(self, step) for step in self.memories.steps]

    def asked(self, at: int, values: Values) -> Asked | None:
        """The call that step ``at`` is, with what it is given of ``values``. None where the step
        does more than to call, or is none of torch's."""
        signature = self.memories.steps[at].signature
        if signature.operator.startswith("remora."):
            return None
        operator = operator_named(signature.operator)
        makes = makes_out_of_nothing(operator) or leaves_unfilled(operator)
        if makes or index_check(operator) is not None or check_of(operator.name) is not None:
            return None
        self.places.look(at, values)
        places = iter(self.read[at])
        arguments = [_getter(self, part, places)(values) for part in signature.arguments]
        keywords = {name: _getter(self, part, places)(values) for name, part in signature.keywords}
        return Asked(operator.function, arguments, keywords)

    def keep(self, at: int, returned: Any, values: Values) -> None:
        """Step ``at`` was done by somebody else, and ``returned`` is what its operator gave."""
        step = self.memories.steps[at]
        targets = _targets(step)
        if targets:
            made = made_values(operator_named(step.signature.operator), returned)
            _keep(values, targets, made)
        for place in self.places.places_in(step.freed) if step.freed else ():
            values[place] = None


def _action(compiled: Compiled, step: Step) -> Action:
    """What a step does: look at memories, compute, keep what was made, let go."""
    tensors, views = compiled.places.views_of(step)
    places = compiled.places.in_order(step, tensors)
    compiled.read.append(places)
    act = _special(compiled, step, places) or _computing(compiled, step, places)
    freed = compiled.places.places_in(step.freed) if step.freed else ()
    if not views and not freed:
        return act

    def action(values: Values, run: Given) -> None:
        for place, slot, seen in views:
            values[place] = view_of(values[slot], seen)
        act(values, run)
        for place in freed:
            values[place] = None

    return action


def _special(compiled: Compiled, step: Step, places: Sequence[int]) -> Action | None:
    operator = step.signature.operator
    if operator == PUT:
        return _put(compiled, step.made[0])
    if operator == WEIGHT:
        return _weight(compiled, step.made[0])
    if operator == FETCH:
        return _fetch(places[0])
    return None


def _put(compiled: Compiled, slot: int) -> Action:
    made = compiled.memories.made[slot]

    def action(values: Values, run: Given) -> None:
        tensor = next(run.tensors, None)
        if tensor is None:
            raise ValueError("the segment came with fewer tensors than it puts")
        check_is(tensor, made)
        values[slot] = laid_out(tensor.to(compiled.device), made)

    return action


def _weight(compiled: Compiled, slot: int) -> Action:
    made, digest = compiled.memories.made[slot], compiled.memories.digests[slot]
    copies = slot in compiled.memories.written

    def action(values: Values, run: Given) -> None:
        tensor = run.weights(digest)
        check_is(tensor, made)
        values[slot] = tensor.clone() if copies else laid_out(tensor, made)

    return action


def _fetch(place: int) -> Action:
    def action(values: Values, run: Given) -> None:
        tensor = values[place]
        # What goes out is written to the socket later, when the program may have changed it.
        run.fetched.append(
            tensor.clone(memory_format=torch.contiguous_format)
            if tensor.device.type == "cpu"
            else tensor.cpu().contiguous()
        )

    return action


def _computing(compiled: Compiled, step: Step, places: Sequence[int]) -> Action:
    operator = operator_named(step.signature.operator)
    function, check = _function(operator, compiled.device), index_check(operator)
    remaining = iter(places)
    arguments = _gathered(compiled, step.signature.arguments, remaining)
    named = {n: _getter(compiled, part, remaining) for n, part in step.signature.keywords}
    if makes_out_of_nothing(operator):
        named["device"] = _constant(compiled.device)
    if operator.makes_one and check is None and not named:
        return _short(function, arguments, step)
    targets = _targets(step)

    def action(values: Values, run: Given) -> None:
        positional = arguments(values)
        keywords = {name: get(values) for name, get in named.items()}
        if check is not None and not check(given(operator, positional, keywords)):
            raise IndexError("an index is out of range")
        returned = function(*positional, **keywords)
        if targets:
            _keep(values, targets, made_values(operator, returned))

    return action


def _short(
    function: Callable[..., Any], arguments: Callable[[Values], tuple[Any, ...]], step: Step
) -> Action:
    """One that makes one tensor out of what it is given in order, as most do."""
    ((slot, made),) = [target for target in _targets(step) if target is not None]
    sizes, strides, dtype = made.sizes, made.strides, NAMED["dtype"][made.dtype]

    def action(values: Values, run: Given) -> None:
        value = function(*arguments(values))
        lies = value.stride() == strides and value.shape == sizes and value.dtype is dtype
        values[slot] = value if lies and not value.storage_offset() else laid_out(value, made)

    return action


def _gathered(
    compiled: Compiled, parts: Sequence[Part], places: Iterator[int]
) -> Callable[[Values], tuple[Any, ...]]:
    """What reads all ``parts``, by one call of C where none of them is a list of such."""
    if any(isinstance(part, Several) and any(given_in_part(part)) for part in parts):
        getters = [_getter(compiled, part, places) for part in parts]
        return lambda values: tuple([get(values) for get in getters])
    found = [
        next(places)
        if isinstance(part, Seen | Scalar)
        else compiled.places.constant(_value(compiled, part))
        for part in parts
    ]
    if len(found) > 1:
        return itemgetter(*found)
    return lambda values: tuple([values[place] for place in found])


def _targets(step: Step) -> list[tuple[int, Made] | None]:
    """For each value that is made, its memory."""
    slots = iter(step.made)
    return [None if made is None else (next(slots), made) for made in step.signature.made]


def _keep(
    values: Values, targets: Sequence[tuple[int, Made] | None], made: Sequence[torch.Tensor | None]
) -> None:
    for target, value in zip(targets, made, strict=True):
        if target is not None and value is not None:
            values[target[0]] = laid_out(value, target[1])
        elif target is not None:
            raise ValueError("it gave fewer tensors than it was to")


def _function(operator: Operator, device: torch.device) -> Callable[..., Any]:
    """As little as there can be between us and the operator."""
    function: Callable[..., Any] = BINDINGS.get(operator.name, operator.function._op)
    function = looked_at(operator.name, function, device)
    if leaves_unfilled(operator):
        # What lies in memory that nobody has filled is somebody else's.
        return lambda *arguments, **keywords: function(*arguments, **keywords).zero_()
    if operator.name == "aten.native_batch_norm.default":
        return lambda *arguments: _with_statistics(arguments[0], function(*arguments))
    return function


def _with_statistics(
    given: torch.Tensor, normed: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """In eval mode some devices give no statistics, and others do; nobody reads them."""
    channels = given.shape[1]
    return (
        normed[0],
        *(each if len(each) == channels else each.new_zeros(channels) for each in normed[1:]),
    )


def _getter(compiled: Compiled, part: Part, places: Iterator[int]) -> Callable[[Values], Any]:
    if isinstance(part, Seen | Scalar):
        return itemgetter(next(places))
    if isinstance(part, Several):
        items = [_getter(compiled, item, places) for item in part.items]
        return lambda values: [get(values) for get in items]
    return _constant(_value(compiled, part))


def _value(compiled: Compiled, part: Part) -> Any:
    if isinstance(part, Several):
        return [_value(compiled, item) for item in part.items]
    if isinstance(part, Named):
        return object_of(part.kind, part.name, compiled.device)
    return part


def _constant(value: Any) -> Callable[[Values], Any]:
    return lambda values: value


def step_failed(step: Step, index: int, error: Exception) -> NodeFailed:
    """What to raise where ``step`` raised ``error``."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:300] if lines else type(error).__name__
    return NodeFailed(index, step.signature.operator, reason)
