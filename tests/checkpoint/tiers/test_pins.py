"""Pinned slots: never handed out, and never in a save's way."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.slots import Slots


def entry(sequence: int, slot: int) -> Entry:
    return Entry(sequence, sequence, slot, 1, 1, bytes(16), 0)


class Pins(RuleBasedStateMachine):
    """Saves begin, commit and fail in any order while copies pin and unpin what is live."""

    @initialize(keep=st.integers(2, 3), in_flight=st.integers(1, 3), spare=st.integers(0, 2))
    def start(self, keep: int, in_flight: int, spare: int) -> None:
        self.slots = Slots(keep, in_flight, spare=spare)
        self.saving: list[Entry] = []
        self.pinned: list[Entry] = []
        self.sequence = 0

    @rule()
    def save(self) -> None:
        """One after the other, as most do."""
        if len(self.saving) < self.slots.in_flight:
            self.begin()
            self.end(self.saving[-1], durable=True)

    @rule()
    def begin(self) -> None:
        slot = self.slots.take()
        if len(self.saving) == self.slots.in_flight:
            assert slot is None
            return
        assert slot is not None, "a save waits for a copy"
        assert slot < self.slots.count
        assert slot not in {each.slot for each in self.pinned}
        self.sequence += 1
        self.saving.append(entry(self.sequence, slot))

    @precondition(lambda self: self.saving)
    @rule(data=st.data(), durable=st.sampled_from([True, True, True, False]))
    def commit(self, data: st.DataObject, durable: bool) -> None:
        self.end(data.draw(st.sampled_from(self.saving)), durable)

    def end(self, done: Entry, durable: bool) -> None:
        self.saving.remove(done)
        decision = self.slots.decide(done)
        if decision is None:
            self.slots.give_back(done.slot)
            return
        self.slots.begin(decision)
        if durable:
            self.slots.committed(decision)
        else:
            self.slots.aborted()
            self.slots.give_back(done.slot)

    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from([*self.slots.live, entry(10**6, 0)]))
        held = self.slots.pin(wanted)
        assert held == (wanted in self.slots.live and len(self.pinned) < self.slots.spare)
        if held:
            self.pinned.append(wanted)

    @precondition(lambda self: len(self.pinned) == self.slots.spare > 0)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        done = data.draw(st.sampled_from(self.pinned))
        self.pinned.remove(done)
        self.slots.unpin(done)

    @invariant()
    def nothing_is_written_over(self) -> None:
        if hasattr(self, "slots"):
            writing = {each.slot for each in self.saving}
            reading = {each.slot for each in (*self.slots.live, *self.pinned)}
            assert not writing & reading
            assert len(writing) == len(self.saving)


Pins.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
TestPins = Pins.TestCase
