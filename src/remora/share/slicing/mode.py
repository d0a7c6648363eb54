"""Run a program with every operator cut to a bound, and somebody asked between the pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from torch.utils._python_dispatch import TorchDispatchMode

from remora.core.clock import Clock, SystemClock
from remora.share.slicing.call import is_view
from remora.share.slicing.slicing import Slicing


class Piece(Struct, frozen=True):
    """What has just run: a piece of a call, or all of one."""

    operator: str
    begin: int
    end: int
    pieces: int
    took_ns: int


Between = Callable[[Piece], object]


class Sliced(TorchDispatchMode):
    """Within it, operators run in pieces where they take longer than the bound.

    It sees forward, backward and optimizer steps: every operator of ATen that the thread runs.
    What the job computes is the same, bit for bit, unless the settings say otherwise.

    Args:
        slicing: how calls are cut.
        between: is called behind every piece and every whole operator that computes, in the
            job's thread; the next one waits until it returns.
    """

    def __init__(
        self, slicing: Slicing, between: Between | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slicing, self._between = slicing, between
        self._clock = clock or SystemClock()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_view(func):
            return func(*args, **kwargs)
        pieces = self._slicing.pieces(func, args, kwargs)
        if pieces is None:
            return self._whole(func, args, kwargs)
        for place in range(len(pieces)):
            began_ns = self._clock.wall_ns()
            pieces.run(place, place + 1)
            self._tell(str(func), place, len(pieces), self._clock.wall_ns() - began_ns)
        return pieces.result

    def _whole(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        began_ns = self._clock.wall_ns()
        result = func(*args, **kwargs)
        took_ns = self._clock.wall_ns() - began_ns
        self._slicing.ran_whole(func, took_ns)
        self._tell(str(func), 0, 1, took_ns)
        return result

    def _tell(self, operator: str, begin: int, pieces: int, took_ns: int) -> None:
        if self._between is not None:
            self._between(Piece(operator, begin, begin + 1, pieces, took_ns))
