"""What a plan does to memories: which it makes, writes to and frees, and how much that takes."""

from __future__ import annotations

from collections.abc import Sequence

from remora.remote.segment.operators import Operator, operator_named
from remora.remote.segment.plan import WEIGHT, Made, Plan, Seen, given_in_part
from remora.remote.segment.shapes import dense_bytes
from remora.remote.segment.validation import Step, steps_of
from remora.remote.server.handles import charged


class Memories:
    """Those of one plan, by their numbers.

    Raises:
        Refused: the plan is not right. Its signatures have been checked.
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = steps_of(plan)
        self.input_bytes, self.scalars = plan.inputs, plan.scalars
        self.made: dict[int, Made] = {}
        self.digests: dict[int, str] = {}
        """Of those that are weights."""
        self.freed = {slot for step in self.steps for slot in step.freed}
        self.written = written_by(self.steps)
        for step in self.steps:
            made = [each for each in step.signature.made if each is not None]
            self.made.update(zip(step.made, made, strict=True))
            if step.signature.operator == WEIGHT:
                self.digests[step.made[0]] = str(step.signature.arguments[0])
        self.made_slots = sorted(self.made)
        read = {slot for step in self.steps for slot in step.read}
        self.input_slots = sorted(read - self.made.keys())
        self.peak_bytes = self._peak_bytes()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.made_slots) + len(self.input_slots)

    def bytes_of(self, slot: int) -> int:
        """What a memory that is made is reckoned at; weights nobody writes to are at no cost."""
        if slot in self.digests and slot not in self.written:
            return 0
        return charged(dense_bytes(self.made[slot]))

    def _peak_bytes(self) -> int:
        """The most that those that are made take at a time."""
        held = peak = 0
        for step in self.steps:
            held += sum(self.bytes_of(slot) for slot in step.made)
            peak = max(peak, held)
            held -= sum(self.bytes_of(slot) for slot in step.freed if slot in self.made)
        return peak


def written_by(steps: Sequence[Step]) -> frozenset[int]:
    """Memories that one of ``steps`` writes to."""
    written = set[int]()
    for step in steps:
        if not step.signature.operator.startswith("remora."):
            written.update(_written_by(operator_named(step.signature.operator), step))
    return frozenset(written)


def _written_by(operator: Operator, step: Step) -> list[int]:
    slots = iter(step.read)
    names = [argument.name for argument in operator.schema.arguments]
    parts = [*zip(names, step.signature.arguments, strict=False), *step.signature.keywords]
    found = []
    for name, part in parts:
        lies_in = [next(slots) for each in given_in_part(part) if isinstance(each, Seen)]
        if name in operator.written:
            found += lies_in
    return found
