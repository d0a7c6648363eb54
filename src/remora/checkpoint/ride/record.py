"""Write down what the script is told, so that it can be told the same again.

The patches are in place while a job is checkpointed and has nothing to replay (any more).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remora.checkpoint.ride import reads, rng
from remora.checkpoint.ride.journal import Journal
from remora.checkpoint.ride.patches import Patches
from remora.checkpoint.ride.where import calls_script, in_script, stands_within


class Recorder:
    """Notes into ``journal`` while it is on."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._patches = Patches()
        self._random: rng.States = {}
        self._closure_calls = 0
        self._steps_seen = 0

    def start(self) -> None:
        """Put the patches in place."""
        from torch.amp.grad_scaler import GradScaler
        from torch.optim.optimizer import register_optimizer_step_pre_hook
        from torch.utils.data import DataLoader

        reads.patch(self._patches, self._noting)
        self._patches.method(DataLoader, "__iter__", self._noting_random)
        self._patches.method(GradScaler, "step", self._noting_scaler)
        self._patches.add(register_optimizer_step_pre_hook(self._before_step).remove)

    def stop(self) -> None:
        """Put everything back."""
        self._patches.remove()

    def stepped(self) -> None:
        """An optimizer has stepped; call it before the journal is told."""
        self._steps_seen += 1
        if self._closure_calls:
            self._journal.note("closure", self._closure_calls)
            self._closure_calls = 0

    # ------------------------------------------------------------ what stands in for what

    def _noting(self, kind: str, original: Any) -> Any:
        note, frame_of, is_script, kept = self._journal.note, sys._getframe, in_script, reads.kept

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
        self._journal.note("random", changed, sum(map(len, changed.values())))

    def _noting_scaler(self, original: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            before = self._steps_seen
            ours = in_script(sys._getframe(1))
            result = original(*args, **kwargs)
            if ours:
                self._journal.note("scaler", self._steps_seen > before)
            return result

        stands_within(step.__code__)
        return step

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        return with_closure(args, kwargs, self._counting)

    def _counting(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def counted() -> Any:
            self._closure_calls += 1
            return closure()

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
