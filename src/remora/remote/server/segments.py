"""One connection's segments: which plan each follows, and how it is run in turns."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Sequence

import torch

from remora.core.clock import Clock
from remora.core.errors import Refused
from remora.core.tensors import tensor_bytes
from remora.remote.messages import Compute
from remora.remote.segment.kept import Kept
from remora.remote.segment.plan import Plan
from remora.remote.segment.shapes import dense_bytes
from remora.remote.segment.validation import Checked, PlanLimits, decode
from remora.remote.server.compiled import Compiled, Given, Values, step_failed
from remora.remote.server.handles import Handles, Held, Room
from remora.remote.server.weights import WeightStore


class Plans:
    """Plans made ready, shared by all connections that use the same. Thread-safe."""

    def __init__(self, device: torch.device, limits: PlanLimits | None = None) -> None:
        self._device, self._limits = device, limits or PlanLimits()
        self._checked = Checked(self._limits)
        self._ready: weakref.WeakValueDictionary[str, Compiled] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._ready)

    def made(self, digest: str, encoded: bytes) -> Compiled:
        """The plan that ``encoded`` holds.

        Raises:
            Refused: it is none that may be run, or not that of ``digest``.
        """
        if hashlib.sha256(encoded).hexdigest() != digest:
            raise Refused(f"the contents of plan {digest[:12]}… are not those of its digest")
        with self._guard:
            ready = self._ready.get(digest)
        if ready is None:
            plan = decode(encoded, self._limits)
            for signature in plan.signatures:
                self._checked.check(signature)
            ready = Compiled(plan, self._device)
            with self._guard:
                self._ready[digest] = ready
        return ready


class Segments:
    """Those of one connection. What it keeps on the server ends with it."""

    def __init__(
        self, plans: Plans, room: Room, weights: WeightStore, clock: Clock, device: torch.device
    ) -> None:
        self._plans, self._clock = plans, clock
        self._kept: Kept[Compiled | Refused] = Kept()
        self._nothing = Compiled(Plan((), (), ()), device)
        self.handles = Handles(room, weights)

    def segment(self, asked: Compute, tensors: Sequence[torch.Tensor]) -> Segment:
        """What ``asked`` is to do.

        Raises:
            Refused: its plan is not known here, or none that may be run.
        """
        if asked.anew:
            if not tensors:
                raise Refused("a plan that is new comes with the segment, as its first tensor")
            self._keep(asked.plan, bytes(tensor_bytes(tensors[0])))
            tensors = tensors[1:]
        ready = self._kept.use(asked.plan) if asked.plan else self._nothing
        if ready is None:
            raise Refused(f"plan {asked.plan[:12]}… is not known over this connection")
        if isinstance(ready, Refused):
            raise ready
        return Segment(self.handles, ready, asked, tensors, self._clock)

    def close(self) -> None:
        """The connection is gone."""
        self.handles.close()

    def _keep(self, digest: str, encoded: bytes) -> None:
        """A plan that is refused is kept as well: the client reckons with it."""
        try:
            ready: Compiled | Refused = self._plans.made(digest, encoded)
        except Refused as error:
            ready = error
        self._kept.keep(digest, ready, len(encoded))


class Segment:
    """A run of one plan. Only one thread advances it."""

    def __init__(
        self,
        handles: Handles,
        compiled: Compiled,
        asked: Compute,
        tensors: Sequence[torch.Tensor],
        clock: Clock,
    ) -> None:
        self._handles, self._compiled, self._asked, self._clock = handles, compiled, asked, clock
        self._run = Given(tensors, self._weight)
        self._weights: list[str] = []
        """Digests of those that are held until it is known who keeps them."""
        self._inputs: list[Held] = []
        self._values: Values | None = None
        self._at = 0
        self._taken = 0
        self._ended = False

    @property
    def fetched(self) -> list[torch.Tensor]:
        """What it was to send back."""
        return self._run.fetched

    @torch.inference_mode()
    def advance(self, until_ns: int) -> bool:
        """Go on until it is done, or until ``until_ns`` on the clock; whether it is done.

        Raises:
            NodeFailed: an operator would not run. What it and those behind it were to make, or to
                write to, counts as failed from now on.
            Refused: a memory that is not there or failed before, or no room.
        """
        try:
            if self._values is None:
                self._values = self._begin()
            self._go_on(self._values, until_ns)
        except Exception as error:  # of any kind: torch has many ways to say no
            self._end(failed=str(error))
            raise
        if self._at < len(self._compiled.actions):
            return False
        self._end()
        return True

    def abandon(self) -> None:
        """Nobody waits for it any more: it ends where it is."""
        if not self._ended:
            self._end(failed="the request that was to make it was cancelled")

    def _begin(self) -> Values:
        self._handles.free(self._asked.freed)
        compiled, numbers = self._compiled, self._asked.inputs
        if len(numbers) != len(compiled.inputs):
            raise Refused(f"{len(numbers)} inputs; this plan takes {len(compiled.inputs)}")
        self._inputs = [self._handles.get(number) for number in numbers]
        for held, size in zip(self._inputs, compiled.inputs, strict=True):
            if held.failed:
                raise Refused(held.failed)
            if held.size != size:
                raise Refused(f"a tensor has {held.size} bytes; this plan takes {size}")
        self._handles.room.take(compiled.peak_bytes)
        self._taken = compiled.peak_bytes
        for slot, held in zip(compiled.input_slots, self._inputs, strict=True):
            if slot in compiled.written:
                self._handles.own(held)
        return compiled.values([held.tensor for held in self._inputs])  # type: ignore[misc]

    def _go_on(self, values: Values, until_ns: int) -> None:
        actions = self._compiled.actions
        while self._at < len(actions):
            try:
                actions[self._at](values, self._run)
            except Exception as error:  # of any kind
                raise step_failed(self._compiled.steps[self._at], self._at, error) from error
            self._at += 1
            if not self._at % _LOOKS and self._clock.wall_ns() >= until_ns:
                return

    def _weight(self, digest: str) -> torch.Tensor:
        held = self._handles.weights.hold([digest])
        self._weights.append(digest)
        return held[digest]

    # ------------------------------------------------- what is left

    def _end(self, failed: str = "") -> None:
        self._ended = True
        compiled, room = self._compiled, self._handles.room
        kept: dict[int, Held] = {}
        for ordinal, slot in enumerate(compiled.made_slots):
            if slot not in compiled.freed:
                kept[ordinal] = self._left(slot, failed)
        if failed:
            self._mark_written(failed)
        room.give(self._taken - sum(held.bytes for held in kept.values()))
        for ordinal, held in kept.items():
            self._handles.keep(self._asked.first + ordinal, held)
        numbers = zip(compiled.input_slots, self._asked.inputs, strict=False)
        self._handles.free(number for slot, number in numbers if slot in compiled.freed)
        for digest in self._weights:
            self._handles.weights.release([digest])
        self._values, self._inputs = None, []

    def _left(self, slot: int, failed: str) -> Held:
        compiled = self._compiled
        tensor = self._values[slot] if self._values is not None else None
        size = dense_bytes(compiled.made[slot])
        digest = compiled.digests.get(slot) if slot not in compiled.written else None
        if tensor is None:
            missing = Held(None, size)
            missing.bytes, missing.failed = 0, failed or "nothing has made it"
            return missing
        if digest is not None:
            self._weights.remove(digest)
        held = Held(tensor, size, digest)
        if failed and slot in _written_from(compiled, self._at):
            held.failed = failed
        return held

    def _mark_written(self, failed: str) -> None:
        written = _written_from(self._compiled, self._at)
        for slot, held in zip(self._compiled.input_slots, self._inputs, strict=False):
            if slot in written:
                held.failed = failed


_LOOKS = 16
"""Steps between two looks at the clock."""


def _written_from(compiled: Compiled, at: int) -> frozenset[int]:
    """Memories that the step ``at`` or one behind it was to write to."""
    return compiled.written_by(compiled.steps[at:])
