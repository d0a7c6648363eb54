"""Write down what the script is told, so that it can be told the same again.

The patches are in place while a job is checkpointed and has nothing to replay (any more).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from remora.checkpoint.ride import reads, rng
from remora.checkpoint.ride.journal import Journal
from remora.checkpoint.ride.patches import Patches
from remora.checkpoint.ride.where import calls_script, in_script, stands_within


class Recorder:
    """Notes into ``journal`` while it is on."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._patches = Patches()
        self._random: rng.States = {}
        self._closure_calls = 0
        self._counted_code: CodeType | None = None
        self._scaler_steps = False

    def start(self) -> None:
        """Put the patches in place."""
        from torch.amp.grad_scaler import GradScaler
        from torch.utils.data import DataLoader

        reads.patch(self._patches, self._noting)
        self._patches.attribute(DataLoader, "__iter__", self._noting_random)
        self._patches.attribute(GradScaler, "step", self._noting_scaler)

    def stop(self) -> None:
        """Put everything back."""
        self._patches.remove()

    def stepped(self) -> None:
        """An optimizer has stepped."""
        if self._scaler_steps:
            self.journal.note("scaler", True)
            self._scaler_steps = False
        if self._closure_calls:
            self.journal.note("closure", self._closure_calls)
            self._closure_calls = 0
        self.journal.stepped()

    # ------------------------------------------------------------ what stands in for what

    def _noting(self, kind: str, original: Any) -> Any:
        note, frame_of, is_script, kept = self.journal.note, sys._getframe, in_script, reads.kept

        if kind in ("item", "__float__", "__int__", "__bool__", "__index__"):

            def read_number(tensor: Any) -> Any:
                value = original(tensor)
                if is_script(frame_of(1)):
                    note(kind, *kept(kind, value)) if type(value) is complex else note(kind, value)
                return value

            return read_number

        def read(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            if is_script(frame_of(1)):
                note(kind, *kept(kind, value))
            return value

        return read

    def _noting_random(self, original: Any) -> Any:
        def __iter__(loader: Any) -> Any:  # noqa: N807  what it stands in for
            if in_script(sys._getframe(1)):
                self._note_random()
            return original(loader)

        stands_within(__iter__.__code__)
        return __iter__

    def _note_random(self) -> None:
        now = rng.capture()
        changed = {name: state for name, state in now.items() if self._random.get(name) != state}
        self._random = now
        self.journal.note("random", changed, sum(map(len, changed.values())))

    def _noting_scaler(self, original: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            self._scaler_steps = in_script(sys._getframe(1))
            result = original(*args, **kwargs)
            if self._scaler_steps:  # it has not: infinities were found
                self.journal.note("scaler", False)
                self._scaler_steps = False
            return result

        stands_within(step.__code__)
        return step

    def before_step(self, args: Any, kwargs: Any) -> Any:
        """An optimizer's step begins. Returns what it is to be called with; None for the same."""
        return with_closure(args, kwargs, self._counting)

    def _counting(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        if getattr(closure, "__code__", None) is self._counted_code:
            return closure  # nested: a subclass's step that calls its parent's

        def counted() -> Any:
            self._closure_calls += 1
            return closure()

        self._counted_code = counted.__code__
        calls_script(counted.__code__)
        return counted


def with_closure(
    args: tuple[Any, ...], kwargs: dict[str, Any], around: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of an optimizer's step with ``around`` its closure; None if it has none."""
    if len(args) > 1 and callable(args[1]):
        return (args[0], around(args[1]), *args[2:]), kwargs
    if callable(kwargs.get("closure")):
        return args, {**kwargs, "closure": around(kwargs["closure"])}
    return None
