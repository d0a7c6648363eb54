"""One connection's segments: which plan each follows, and how it is run in turns."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from remora.core.clock import Clock
from remora.core.errors import Refused
from remora.core.tensors import tensor_bytes
from remora.remote.graph.asked import Asked
from remora.remote.messages import Compute
from remora.remote.segment.kept import Kept
from remora.remote.segment.plan import Plan
from remora.remote.segment.shapes import dense_bytes
from remora.remote.segment.validation import Checked, PlanLimits, Step, decode
from remora.remote.server.compiled import Compiled, Given, step_failed
from remora.remote.server.handles import Handles, Held, Room
from remora.remote.server.memories import written_by
from remora.remote.server.places import Values
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

    def segment(
        self, asked: Compute, tensors: Sequence[torch.Tensor], refused: Refused | None = None
    ) -> Segment:
        """What ``asked`` is to do.

        Args:
            refused: why nothing of it can be done.

        Raises:
            Refused: its plan is not known here, or none that may be run.
        """
        if asked.anew:
            if not tensors:
                raise Refused("a plan that is new comes with the segment, as its first tensor")
            self._keep(asked.plan, tensors[0])
            tensors = tensors[1:]
        ready = self._kept.use(asked.plan) if asked.plan else self._nothing
        if ready is None:
            raise Refused(f"plan {asked.plan[:12]}… is not known over this connection")
        if isinstance(ready, Refused):
            raise ready
        return Segment(self.handles, ready, asked, tensors, self._clock, refused)

    def close(self) -> None:
        """The connection is gone."""
        self.handles.close()

    def _keep(self, digest: str, encoded: torch.Tensor) -> None:
        """A plan that is refused is kept as well: the client reckons with it."""
        try:
            if encoded.is_meta:
                raise Refused("there was no memory for this plan; make the device anew")
            ready: Compiled | Refused = self._plans.made(digest, bytes(tensor_bytes(encoded)))
        except Refused as error:
            ready = error
        self._kept.keep(digest, ready, encoded.nbytes)


class Segment:
    """A run of one plan. Only one thread advances it."""

    def __init__(
        self,
        handles: Handles,
        compiled: Compiled,
        asked: Compute,
        tensors: Sequence[torch.Tensor],
        clock: Clock,
        refused: Refused | None = None,
    ) -> None:
        self._handles, self._compiled, self._asked, self._clock = handles, compiled, asked, clock
        self._memories, self._refused = compiled.memories, refused
        self._run = Given(tensors, self._weight)
        self._weights: list[str] = []
        """Digests of those that are held until it is known who keeps them."""
        self._inputs: list[Held] = []
        self._values: Values | None = None
        self.at = 0
        """Steps that are done."""
        self._taken = 0
        self._ended = False
        self._failed: dict[int, str] = {}
        """Memories that are not what they were to be, and why."""
        self._error: Refused | None = None
        """The first that went wrong."""

    @property
    def compiled(self) -> Compiled:
        """The plan that it follows."""
        return self._compiled

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self._compiled.actions)

    @property
    def fetched(self) -> list[torch.Tensor]:
        """What it was to send back."""
        return self._run.fetched

    @torch.inference_mode()
    def advance(self, until_ns: int) -> bool:
        """Go on until it is done, or until ``until_ns`` on the clock; whether it is done.

        What does not depend on an operator that failed is done all the same.

        Raises:
            NodeFailed: an operator would not run. What it was to make or to write to, and what
                depends on that, counts as failed from now on.
            Refused: a memory that is not there or failed before, or no room.
        """
        self.begin()
        self.go_on(self.steps, until_ns)
        if self.at < self.steps:
            return False
        self.finish()
        return True

    def begin(self) -> None:
        """Take what it needs, where that has not been done; then its steps may be done.

        Raises:
            Refused: it cannot be done at all, and has ended.
        """
        if self._values is not None:
            return
        try:
            self._values = self._begin()
            if self._refused is not None:
                raise self._refused
        except Exception as error:  # of any kind: torch has many ways to say no
            self._end_with(str(error))
            raise

    def finish(self) -> None:
        """Behind the last step.

        Raises:
            Refused: what went wrong first, where something did; the rest is done.
        """
        self._end()
        if self._error is not None:
            raise self._error

    def asked(self) -> Asked | None:
        """The call that the next step is; None where it is more, or will fail."""
        step = self._memories.steps[self.at]
        if any(slot in self._failed for slot in step.read) or self._values is None:
            return None
        return self._compiled.asked(self.at, self._values)

    def has_given(self, result: Any) -> None:
        """Somebody else has made that call, and this is what its operator returned."""
        at, values = self.at, self._values or []
        self.at += 1
        try:
            self._compiled.keep(at, result, values)
        except Exception as error:  # of any kind
            self._pass_over(values, at, step_failed(self._memories.steps[at], at, error))

    def has_failed(self, error: Exception) -> None:
        """It raised ``error``: the step is passed over."""
        at, step = self.at, self._memories.steps[self.at]
        self.at += 1
        self._pass_over(self._values or [], at, step_failed(step, at, error))

    def abandon(self) -> None:
        """Nobody waits for it any more: it ends where it is."""
        if not self._ended:
            self._end_with("the request that was to make it was cancelled")

    def _begin(self) -> Values:
        self._handles.free(self._asked.freed)
        if self._asked.frees_all:
            self._handles.free_all()
        memories, numbers = self._memories, self._asked.inputs
        if len(numbers) != len(memories.input_bytes):
            raise Refused(f"{len(numbers)} inputs; this plan takes {len(memories.input_bytes)}")
        if len(self._asked.scalars) != memories.scalars:
            raise Refused(f"{len(self._asked.scalars)} scalars; this plan takes {memories.scalars}")
        self._inputs = [self._handles.get(number) for number in numbers]
        for held, size in zip(self._inputs, memories.input_bytes, strict=True):
            if held.size != size:
                raise Refused(f"a tensor has {held.size} bytes; this plan takes {size}")
        self._handles.room.take(memories.peak_bytes)
        self._taken = memories.peak_bytes
        for slot, held in zip(memories.input_slots, self._inputs, strict=True):
            if held.failed:
                self._fail([slot], Refused(held.failed))
            elif slot in memories.written:
                self._handles.own(held)
        return self._compiled.places.values(
            [held.tensor for held in self._inputs], self._asked.scalars
        )

    def go_on(self, end: int, until_ns: int | None = None) -> None:
        """Do the steps to before ``end``, or until ``until_ns``. One that fails is passed over.

        Between :meth:`begin` and :meth:`finish`.
        """
        actions, steps, values = self._compiled.actions, self._memories.steps, self._values or []
        while self.at < end:
            at, step = self.at, steps[self.at]
            self.at += 1
            try:
                if self._failed:
                    self._check_reads(step)
                actions[at](values, self._run)
            except _PassedOn as error:
                self._pass_over(values, at, Refused(str(error)))
            except Exception as error:  # of any kind
                self._pass_over(values, at, step_failed(step, at, error))
            if until_ns is not None and not self.at % _LOOKS and self._clock.wall_ns() >= until_ns:
                return

    def _check_reads(self, step: Step) -> None:
        for slot in step.read:
            if slot in self._failed:
                raise _PassedOn(self._failed[slot])

    def _pass_over(self, values: Values, at: int, error: Refused) -> None:
        """The step ``at`` is not done; what it was to make and to write to has failed."""
        places, step = self._compiled.places, self._memories.steps[at]
        self._fail([*step.made, *written_by([step])], error)
        places.look(at, values)  # others look through the same views
        for place in places.places_in(step.freed):
            values[place] = None

    def _fail(self, slots: Iterable[int], error: Refused) -> None:
        self._error = self._error or error
        self._failed.update(dict.fromkeys(slots, str(error)))

    def _weight(self, digest: str) -> torch.Tensor:
        held = self._handles.weights.hold([digest])
        self._weights.append(digest)
        return held[digest]

    # ------------------------------------------------- what is left

    def _end_with(self, failed: str) -> None:
        """Nothing of what is left will be done."""
        left = self._memories.steps[self.at :]
        slots = [*(slot for step in left for slot in step.made), *written_by(left)]
        self._fail(slots, Refused(failed))
        self._end()

    def _end(self) -> None:
        self._ended = True
        memories, room = self._memories, self._handles.room
        kept = {
            ordinal: self._left(slot)
            for ordinal, slot in enumerate(memories.made_slots)
            if slot not in memories.freed
        }
        for slot, held in zip(memories.input_slots, self._inputs, strict=False):
            held.failed = self._failed.get(slot, held.failed)
        room.give(self._taken - sum(held.bytes for held in kept.values()))
        for ordinal, held in kept.items():
            self._handles.keep(self._asked.first + ordinal, held)
        numbers = zip(memories.input_slots, self._asked.inputs, strict=False)
        self._handles.free(number for slot, number in numbers if slot in memories.freed)
        for digest in self._weights:
            self._handles.weights.release([digest])
        self._values, self._inputs = None, []

    def _left(self, slot: int) -> Held:
        """What stays of a memory that was made."""
        memories = self._memories
        tensor = self._values[slot] if self._values is not None else None
        size = dense_bytes(memories.made[slot])
        if tensor is None or slot in self._failed:
            missing = Held(None, size)
            missing.bytes, missing.failed = 0, self._failed.get(slot, "nothing has made it")
            return missing
        digest = memories.digests.get(slot) if slot not in memories.written else None
        if digest is not None:
            self._weights.remove(digest)
        return Held(tensor, size, digest)


_LOOKS = 16
"""Steps between two looks at the clock."""


class _PassedOn(Exception):
    """A step reads what another was to make, and has not."""
