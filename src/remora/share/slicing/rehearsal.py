"""A call on the side: run whole and in pieces, on real data, with nothing of the job changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from remora.core.clock import Clock
from remora.share.slicing.call import Call, as_outputs, gives, tensors_in, written
from remora.share.slicing.contract import Part
from remora.share.slicing.outputs import Layouts, allocate, layouts_of
from remora.share.slicing.registry import parts
from remora.share.slicing.verification import largest_difference, spoil


class Rehearsal:
    """One call with its real arguments; what it writes to is copied first, twice.

    Args:
        operator, values: the call.
        device: where it runs.
    """

    def __init__(
        self, operator: Any, values: Mapping[str, Any], device: torch.device, clock: Clock
    ) -> None:
        self._operator, self._device, self._clock = operator, device, clock
        self._originals = {name: values[name] for name in written(operator)}
        wanted = self._with_copies(values)
        result = as_outputs(operator(**wanted))
        self.layouts: Layouts = layouts_of(result)
        self._wanted = parts(Call(operator, wanted, self._outputs(wanted, result)))
        self._values = self._with_copies(values)

    @property
    def wanted(self) -> Sequence[Part]:
        """The parts of the call, bound to what the whole gave: not to be run."""
        return self._wanted

    def time_whole(self) -> int:
        """Nanoseconds that the operator itself takes."""
        self._restore()
        return self._timed(lambda: self._operator(**self._values))

    def time_pieces(self, place: int, axis: str, pieces: int) -> list[int]:
        """Nanoseconds of each of ``pieces`` pieces of the part at ``place``, in order.

        They write to memory that is new, as they will: the first to touch it pays for that.
        """
        self._restore()
        part, _ = self._anew(place)
        cut = part.axis(axis)
        return [
            self._timed(lambda begin=begin, end=end: cut.run(begin, end))  # type: ignore[misc]
            for begin, end in cut.ranges(pieces)
        ]

    def difference(self, place: int, axis: str, pieces: int) -> float:
        """How far the part at ``place`` is from the whole when it is cut so; 0.0 for not a bit."""
        self._restore()
        part, outputs = self._anew(place)
        self._spoil(outputs)
        cut = part.axis(axis)
        for begin, end in cut.ranges(pieces):
            cut.run(begin, end)
        return largest_difference(zip(part.writes, self._wanted[place].writes, strict=True))

    def _anew(self, place: int) -> tuple[Part, tuple[Any, ...]]:
        """The part at ``place``, with outputs in new memory, and prepared."""
        outputs = allocate(self._operator, self.layouts, self._values, self._device)
        made = parts(Call(self._operator, self._values, outputs))
        for before in made[:place]:
            if before.prepares:
                axis = before.axes[0]
                axis.run(0, axis.extent)
        return made[place], outputs

    def _timed(self, run: Callable[[], object]) -> int:
        self._synchronise()
        began_ns = self._clock.wall_ns()
        run()
        self._synchronise()
        return self._clock.wall_ns() - began_ns

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _outputs(self, values: Mapping[str, Any], result: tuple[Any, ...]) -> tuple[Any, ...]:
        places = zip(result, gives(self._operator), strict=True)
        return tuple(made if name is None else values[name] for made, name in places)

    def _with_copies(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **{name: _copied(each) for name, each in self._originals.items()}}

    def _restore(self) -> None:
        for name, original in self._originals.items():
            pairs = zip(tensors_in(self._values[name]), tensors_in(original), strict=True)
            for copy, source in pairs:
                copy.copy_(source)

    def _spoil(self, outputs: tuple[Any, ...]) -> None:
        for output, argument in zip(outputs, gives(self._operator), strict=True):
            if argument is None:
                for each in tensors_in(output):
                    spoil(each)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        copy = torch.empty_strided(
            value.shape, value.stride(), dtype=value.dtype, device=value.device
        )
        return copy.copy_(value)
    if isinstance(value, list | tuple):
        return [_copied(each) for each in value]
    return value
