"""Run a script again up to where its checkpoint was made, without computing.

The script runs from its top with its own control flow, so its own variables come right by
themselves. Until the checkpoint's point (:mod:`.points`) forwards are stubs (:mod:`.stubs`),
optimizers step without gradients, which changes nothing, gradient scalers do nothing, and what the
script reads out of tensors is what it read the first time (:mod:`.journal`). Random generators are
put back before each iterator of a data loader, so that the epoch under way has its permutation.
Batches are really loaded. Files of tensors that the script writes are left as they are.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from remora.checkpoint.ride import reads, rng
from remora.checkpoint.ride.journal import Entries, Entry, Log, Point
from remora.checkpoint.ride.patches import Patches
from remora.checkpoint.ride.points import is_root_call
from remora.checkpoint.ride.record import with_closure
from remora.checkpoint.ride.stubs import Stubs
from remora.checkpoint.ride.where import calls_script, in_script, script_line, stands_within
from remora.core.errors import ReplayDiverged

_SAVERS = (
    ("torch", "save"),
    ("safetensors.torch", "save_file"),
    ("safetensors.torch", "save_model"),
)


class Player:
    """The journal's entries, handed out in their order."""

    def __init__(self, log: Log) -> None:
        batches = [placed.frame for placed in log.frames if isinstance(placed.frame, Entries)]
        self._entries = deque((batch.calls, each) for batch in batches for each in batch.entries)
        self.calls = 0

    def take(self, kind: str) -> Entry:
        """The next entry, which must be a ``kind`` of now.

        Raises:
            ReplayDiverged: it is not.
        """
        if not self._entries:
            raise self._diverged(f"a read by {kind}, and nothing more was read then")
        calls, entry = self._entries[0]
        if calls != self.calls:
            raise self._diverged(f"a read by {kind}, where nothing more was read in that step")
        if entry.kind != kind:
            raise self._diverged(f"a read by {kind}, where there was one by {entry.kind}")
        return self._entries.popleft()[1]

    def stepped(self) -> None:
        """An optimizer has stepped: everything read before it must have been read again."""
        if self._entries and self._entries[0][0] <= self.calls:
            kind = self._entries[0][1].kind
            raise self._diverged(f"an optimizer's step, where there was first a read by {kind}")
        self.calls += 1

    def closure_calls(self) -> int:
        """How often the closure of the step under way was called: noted after all it read."""
        now = (each for calls, each in self._entries if calls == self.calls)
        noted = next((each for each in now if each.kind == "closure"), None)
        return 1 if noted is None else int(noted.value)

    @property
    def exhausted(self) -> bool:
        return not self._entries

    def _diverged(self, what: str) -> ReplayDiverged:
        return ReplayDiverged(
            f"the script does not do what it did the first time: after {self.calls:,} optimizer "
            f"steps, at {script_line(sys._getframe(1))}, there is {what}; undo the change, start "
            "over with --fresh, or save with remora.Checkpointer in the script"
        )


class Replay:
    """The replay of ``log``.

    Args:
        target: what to stop at; None replays a script that had run to its end.
        arrived: called at the target with the script's frame, everything of replay's put back.
        first: called with the script's frame before its first forward.
    """

    def __init__(
        self,
        log: Log,
        target: Point | None,
        arrived: Callable[[FrameType | None], None],
        first: Callable[[FrameType | None], None],
    ) -> None:
        self._player = Player(log)
        self._target, self._arrived, self._first = target, arrived, first
        self._patches = Patches()
        self._forward: Any = None
        self.stubs: Stubs | None = None
        self._forwards = 0
        self._put_aside: dict[int, list[tuple[Any, Any]]] = {}
        self.over = False

    @property
    def calls(self) -> int:
        return self._player.calls

    def start(self) -> None:
        """Put the patches in place."""
        import torch
        from torch.amp.grad_scaler import GradScaler
        from torch.utils.data import DataLoader

        reads.patch(self._patches, self._answering)
        self._patches.attribute(torch.nn.Module, "__call__", self._calling)
        self._patches.attribute(DataLoader, "__iter__", self._iterating)
        for name, make in (("step", self._scaler_step), ("unscale_", _doing_nothing),
                           ("update", _doing_nothing)):  # fmt: skip
            self._patches.attribute(GradScaler, name, make)
        self._patches.attribute(torch.autograd, "grad", _tolerating_unused)
        self._leave_files()

    def stop(self) -> None:
        """Put everything back. Calling it twice does no harm."""
        self.over = True
        self._patches.remove()
        if self.stubs is not None:
            self.stubs.close()

    def _leave_files(self) -> None:
        """Until the checkpoint the program's weights are not those it had then."""
        for room, name in _SAVERS:
            if (module := sys.modules.get(room)) is not None:
                self._patches.function(module, name, _leaving_files)

    # ------------------------------------------------------------ arriving

    def _at(self, what: str, frame: FrameType | None) -> bool:
        """Whether the target is before ``what``, which is about to happen; then replay is over."""
        target = self._target
        if target is None or target.at != what or target.calls != self._player.calls:
            return False
        if not self._player.exhausted:
            self._player.stepped()  # raises, and says what is missing
        self.stop()
        self._arrived(frame)
        return True

    # ------------------------------------------------------------ what stands in for what

    def _answering(self, kind: str, original: Any) -> Any:
        take, frame_of, is_script = self._player.take, sys._getframe, in_script

        def read(*args: Any, **kwargs: Any) -> Any:
            if not is_script(frame_of(1)):
                return original(*args, **kwargs)
            kept = take(kind).value
            if reads.only_fingerprint(kept):
                return self._reproduced(kind, kept, original(*args, **kwargs))
            return reads.given(kind, kept)

        return read

    def _reproduced(self, kind: str, kept: Any, value: Any) -> Any:
        again, _ = reads.kept(kind, value)
        if again != kept:
            raise ReplayDiverged(
                f"at {script_line(sys._getframe(2))} the script reads {np.size(value):,} numbers "
                f"by {kind}, more than the journal keeps, and replay does not compute them; start "
                "over with --fresh, or save with remora.Checkpointer in the script"
            )
        return value

    def _calling(self, original: Any) -> Any:
        stubs = self.stubs = Stubs(original)

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            frame = sys._getframe(1)
            if self.over or not is_root_call(frame):
                return original(module, *args, **kwargs)
            self._forwards += 1
            if self._forwards == 1:
                self._leave_files()  # what has been imported meanwhile
                self._first(frame)
            if self._at("forward", frame):
                return original(module, *args, **kwargs)
            return stubs.answer(module, args, kwargs)

        stands_within(Stubs.answer.__code__)
        return __call__

    def _iterating(self, original: Any) -> Any:
        def __iter__(loader: Any) -> Any:  # noqa: N807
            if in_script(sys._getframe(1)):
                rng.apply(self._player.take("random").value)
            return original(loader)

        stands_within(__iter__.__code__)
        return __iter__

    def _scaler_step(self, original: Any) -> Any:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if self._player.take("scaler").value:
                return optimizer.step(*args, **kwargs)
            return None

        stands_within(step.__code__)
        return step

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        """An optimizer's step begins. Returns what it is to be called with; None for the same."""
        if id(optimizer) in self._put_aside:
            return None  # nested: a subclass's step that calls its parent's
        if self._at("step", sys._getframe(2)):
            return None
        self._take_gradients(optimizer)
        return with_closure(args, kwargs, lambda closure: self._repeating(optimizer, closure))

    def _take_gradients(self, optimizer: Any) -> None:
        aside = self._put_aside.setdefault(id(optimizer), [])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    aside.append((parameter, parameter.grad))
                    parameter.grad = None

    def _repeating(self, optimizer: Any, closure: Callable[[], Any]) -> Callable[[], Any]:
        """All calls of the closure at once: without gradients, no optimizer asks a second time."""

        def repeated() -> Any:
            calls = self._player.closure_calls()
            first = closure()
            for _ in range(calls - 1):
                closure()
            self._player.take("closure")
            self._take_gradients(optimizer)
            return first

        calls_script(repeated.__code__)
        return repeated

    def after_step(self, optimizer: Any) -> None:
        """An optimizer has stepped."""
        if self.over or id(optimizer) not in self._put_aside:
            return
        for parameter, gradient in self._put_aside.pop(id(optimizer), ()):
            parameter.grad = gradient
        self._player.stepped()
        if self._target is not None and self._target.calls == self._player.calls:
            rng.apply(self._target.random)


def _doing_nothing(original: Any) -> Any:
    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    return nothing


def _tolerating_unused(original: Any) -> Any:
    """Parameters hang on no stub's graph: their gradients are zeros."""

    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("materialize_grads", None)
        return original(
            outputs,
            inputs,
            *args[:4],
            **{**kwargs, "allow_unused": True, "materialize_grads": True},
        )

    return grad


def _leaving_files(original: Any) -> Any:
    def save(thing: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, (str, os.PathLike)):
            return None
        return original(thing, file, *args, **kwargs)

    return save
