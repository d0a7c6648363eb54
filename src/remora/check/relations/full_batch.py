"""Full batch: a data loader hands out batches of as many rows as it was asked for.

Learned from: the first size of the tensors in every batch, held against the rows that are due: the
batch size, or what is left of the data for the last batch of a pass. A loader that always handed
out what was due is supposed to. It is said with the function that puts rows together into a batch,
since one that turns them (time before batch, a list of boxes for each image) is right to. Torch's
own, which stacks them, cannot be wrong, and nothing is said of it.

Checked: every batch of a loader with this function, as it is handed out.

Not judged: loaders whose batches or data have no known size, and batches whose tensors differ in
their first size.

TrainCheck has no relation for this (its gallery has an issue for it, in progress).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from remora.check.calls import Call
from remora.check.conditions import Condition, Constant
from remora.check.relations.contract import Claim, Learned, Learner
from remora.check.relations.each_call import EachCall, Verdict
from remora.check.relations.fresh import NEXT

_STACKS = ".default_collate"
DUE, COLLATE, ROWS = "self.rows_due", "self.collate", "result.rows"


class FullBatch(Claim, frozen=True, tag="full batch"):
    function: str

    def words(self) -> str:
        return f"{self.function} (a data loader) returns batches of batch_size rows"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({DUE, COLLATE})}

    def outputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({ROWS})}


def _is_full(call: Call) -> bool | None:
    due, rows = call.inputs.get(DUE), call.outputs.get(ROWS)
    return None if due is None or rows is None else bool(due == rows)


class FullBatchLearner(Learner):
    """Counts by the function that makes a batch."""

    def __init__(self) -> None:
        self._full: Counter[Any] = Counter()
        self._other: set[Any] = set()

    def asks(self, function: str) -> frozenset[str]:
        return frozenset({ROWS}) if function == NEXT else frozenset()

    def end(self, call: Call) -> None:
        if call.function != NEXT or call.failed or (full := _is_full(call)) is None:
            return
        if full:
            self._full[call.inputs.get(COLLATE)] += 1
        else:
            self._other.add(call.inputs.get(COLLATE))

    def learned(self, fewest: int) -> Iterator[Learned]:
        for collate, support in self._full.items():
            if support >= fewest and _may_be_wrong(collate) and collate not in self._other:
                when = Condition(any_of=((Constant(COLLATE, (collate,)),),))
                yield Learned(FullBatch(NEXT), when, support)


def _may_be_wrong(collate: Any) -> bool:
    return type(collate) is str and not collate.endswith(_STACKS)


class FullBatchMachine(EachCall):
    claims = FullBatch

    @staticmethod
    def verdict(claim: FullBatch) -> Verdict:
        return _is_full

    @staticmethod
    def seen(claim: FullBatch, call: Call) -> str:
        return f"{call.outputs[ROWS]} rows where {call.inputs[DUE]} are due"
