"""A plan made ready: checked, its views and constants placed, one function for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import torch

from remora.remote.graph.bindings import BINDINGS
from remora.remote.graph.nodes import Named
from remora.remote.graph.operators import NAMED, object_of
from remora.remote.graph.program import NodeFailed
from remora.remote.segment.guards import given, index_check
from remora.remote.segment.operators import Operator, operator_named
from remora.remote.segment.plan import FETCH, PUT, WEIGHT, Made, Part, Plan, Seen, Several, seen_in
from remora.remote.segment.shapes import (
    dense_bytes,
    leaves_unfilled,
    made_values,
    makes_out_of_nothing,
)
from remora.remote.segment.validation import Step, steps_of
from remora.remote.server.handles import charged

Values = list[Any]
"""The memories, then views of them and constants."""


class Given:
    """What one run has beside its memories."""

    def __init__(self, tensors: Sequence[torch.Tensor], weights: Callable[[str], Any]) -> None:
        self.tensors = iter(tensors)
        self.weights = weights
        """Holds the weight of a digest."""
        self.fetched: list[torch.Tensor] = []


View = tuple[int, int, Seen]
"""A place, the memory that is looked at, and how."""
Action = Callable[[Values, Given], None]


class Compiled:
    """A plan ready to run on ``device``. Immutable; the memories of a run are its own.

    Raises:
        Refused: the plan is not right. Its signatures have been checked.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.inputs, self.device = plan.inputs, device
        self.steps = steps_of(plan)
        self.written = self.written_by(self.steps)
        self._constants: Values = []
        self._places: dict[int, dict[Seen, int]] = {}
        """For each memory the places of its views."""
        self._reckon()
        self._met = len(self.input_slots) + len(self.made_slots)
        self._views: list[list[View]] = []
        """For each step the views that nobody before it has looked through."""
        self.actions = [_action(self, step) for step in self.steps]

    def values(self, memories: Sequence[torch.Tensor | None]) -> Values:
        """The values before the first step."""
        values: Values = [None] * self._met + self._constants
        for slot, memory in zip(self.input_slots, memories, strict=True):
            values[slot] = memory
        return values

    def _reckon(self) -> None:
        """Who is made, who is left at the end, and the most that is there at a time."""
        self.made: dict[int, Made] = {}
        self.digests: dict[int, str] = {}
        held = self.peak_bytes = 0
        freed = set[int]()
        for step in self.steps:
            made = [each for each in step.signature.made if each is not None]
            self.made.update(zip(step.made, made, strict=True))
            if step.signature.operator == WEIGHT:
                self.digests[step.made[0]] = str(step.signature.arguments[0])
            held += sum(self.bytes_of(slot) for slot in step.made)
            self.peak_bytes = max(self.peak_bytes, held)
            held -= sum(self.bytes_of(slot) for slot in step.freed if slot in self.made)
            freed.update(step.freed)
        self.kept_bytes = held
        self.made_slots = sorted(self.made)
        met = {slot for step in self.steps for slot in step.read}
        self.input_slots = sorted(met - self.made.keys())
        self.freed = freed

    def bytes_of(self, slot: int) -> int:
        """What a memory that is made is reckoned at; weights nobody writes to are at no cost."""
        if slot in self.digests and slot not in self.written:
            return 0
        return charged(dense_bytes(self.made[slot]))

    def look(self, step: int, values: Values) -> None:
        """Make the views that the step is the first to look through, where there is anything."""
        for place, slot, seen in self._views[step]:
            if values[slot] is not None:
                values[place] = view_of(values[slot], seen)

    def views_of(self, step: Step) -> tuple[list[int], list[View]]:
        """Where the tensors of ``step``, the next, lie; and the views that are yet to be made."""
        places: list[int] = []
        views: list[View] = []
        for slot, seen in zip(step.read, seen_in(step.signature), strict=True):
            place, is_new = self.place_of(slot, seen)
            places.append(place)
            if is_new:
                views.append((place, slot, seen))
        self._views.append(views)
        return places, views

    def place_of(self, slot: int, seen: Seen) -> tuple[int, bool]:
        """Where the tensor lies that looks at ``slot`` so, and whether it has yet to be made."""
        whole = Made(seen.dtype, seen.sizes, seen.strides)
        if self.made.get(slot) == whole and not seen.offset:
            return slot, False
        views = self._places.setdefault(slot, {})
        place = views.get(seen)
        if place is not None:
            return place, False
        views[seen] = place = self.constant(None)
        return place, True

    def constant(self, value: Any) -> int:
        """A place that holds ``value``."""
        self._constants.append(value)
        return self._met + len(self._constants) - 1

    def places_in(self, slots: Sequence[int]) -> list[int]:
        """All places through which ``slots`` are looked at, and themselves."""
        views = [place for slot in slots for place in self._places.get(slot, {}).values()]
        return [*slots, *views]

    def written_by(self, steps: Sequence[Step]) -> frozenset[int]:
        """Memories that one of ``steps`` writes to."""
        written = set[int]()
        for step in steps:
            if not step.signature.operator.startswith("remora."):
                operator = operator_named(step.signature.operator)
                written.update(_written_by(operator, step))
        return frozenset(written)


def _written_by(operator: Operator, step: Step) -> list[int]:
    slots = iter(step.read)
    names = [argument.name for argument in operator.schema.arguments]
    parts = [*zip(names, step.signature.arguments, strict=False), *step.signature.keywords]
    found = []
    for name, part in parts:
        lies_in = [next(slots) for _ in _tensors_of(part)]
        if name in operator.written:
            found += lies_in
    return found


def _tensors_of(part: Part) -> Sequence[Seen]:
    if isinstance(part, Seen):
        return [part]
    if isinstance(part, Several):
        return [seen for item in part.items for seen in _tensors_of(item)]
    return []


# ------------------------------------------------- one step


def _action(compiled: Compiled, step: Step) -> Action:
    """What a step does: look at memories, compute, keep what was made, let go."""
    places, views = compiled.views_of(step)
    act = _special(compiled, step, places) or _computing(compiled, step, places)
    freed = compiled.places_in(step.freed) if step.freed else ()
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
    made = compiled.made[slot]

    def action(values: Values, run: Given) -> None:
        tensor = next(run.tensors, None)
        if tensor is None:
            raise ValueError("the segment came with fewer tensors than it puts")
        _check_is(tensor, made)
        values[slot] = laid_out(tensor.to(compiled.device), made)

    return action


def _weight(compiled: Compiled, slot: int) -> Action:
    made, digest = compiled.made[slot], compiled.digests[slot]
    copies = slot in compiled.written

    def action(values: Values, run: Given) -> None:
        tensor = run.weights(digest)
        _check_is(tensor, made)
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
    function, check = _function(operator), index_check(operator)
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
    """What reads all ``parts``, by one call of C where none of them is a list of tensors."""
    if any(isinstance(part, Several) and _tensors_of(part) for part in parts):
        getters = [_getter(compiled, part, places) for part in parts]
        return lambda values: tuple([get(values) for get in getters])
    found = [
        next(places) if isinstance(part, Seen) else compiled.constant(_value(compiled, part))
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


def _function(operator: Operator) -> Callable[..., Any]:
    """As little as there can be between us and the operator."""
    function: Callable[..., Any] = BINDINGS.get(operator.name, operator.function._op)
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
    if isinstance(part, Seen):
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


# ------------------------------------------------- tensors and memories


def view_of(memory: torch.Tensor, seen: Seen) -> torch.Tensor:
    """``memory`` looked at as ``seen``, which lies within it."""
    dtype = NAMED["dtype"][seen.dtype]
    if memory.dtype == dtype:
        return memory.as_strided(seen.sizes, seen.strides, seen.offset)
    storage = memory.untyped_storage()
    view = torch.empty(0, dtype=dtype, device=memory.device)
    return view.set_(storage, seen.offset, seen.sizes, seen.strides)


def laid_out(tensor: torch.Tensor, made: Made) -> torch.Tensor:
    """``tensor``, lying in memory as ``made`` says: copied where a kernel chose otherwise."""
    _check_is(tensor, made)
    if tensor.stride() == made.strides and not tensor.storage_offset():
        return tensor
    laid = torch.empty_strided(made.sizes, made.strides, dtype=tensor.dtype, device=tensor.device)
    return laid.copy_(tensor)


def _check_is(tensor: torch.Tensor, made: Made) -> None:
    if tuple(tensor.shape) != made.sizes or tensor.dtype != NAMED["dtype"][made.dtype]:
        found = f"{str(tensor.dtype)[6:]} {list(tensor.shape)}"
        raise ValueError(f"it is {found}, not {made.dtype} {list(made.sizes)}")


def step_failed(step: Step, index: int, error: Exception) -> NodeFailed:
    """What to raise where ``step`` raised ``error``."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:300] if lines else type(error).__name__
    return NodeFailed(index, step.signature.operator, reason)
