"""How long operators take, learned from those that ran: by operator and shapes.

In a plan and in a graph the place of a step says its operator. A plan fixes its shapes as well; a
graph has them from its inputs. So the time of a step is kept by place and by what the inputs are.
Steps of plans with the same signature share what is known of it: the first step of a training that
changes a little is no stranger.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

from remora.remote.graph.program import Program
from remora.remote.segment.plan import Signature
from remora.remote.server.compiled import Compiled

GRAIN_NS: Final = 100_000
"""Steps that take less than this together are one unit. A decision takes about a tenth of it, and
the published bound on a turnaround is as long (Tally, ASPLOS'25)."""
KINDS: Final = 64
"""Kinds of inputs of one graph that are told apart; beyond, those that came first are forgotten."""
SIGNATURES: Final = 65_536


class Took:
    """How long one step takes; 0 as long as nobody knows."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0

    def note(self, ns: int) -> None:
        """It took ``ns``. The first time may be long for other reasons, so less counts at once."""
        ns = max(1, ns)
        self.ns = ns if not self.ns or ns < self.ns else self.ns + (ns - self.ns + 7) // 8


Steps = Sequence[Took]


class Durations:
    """All that is known. Of one thread."""

    def __init__(self) -> None:
        self._plans: weakref.WeakKeyDictionary[Compiled, Steps] = weakref.WeakKeyDictionary()
        self._graphs: weakref.WeakKeyDictionary[Program, OrderedDict[Hashable, Steps]] = (
            weakref.WeakKeyDictionary()
        )
        self._signatures: OrderedDict[Signature, Took] = OrderedDict()

    def of_plan(self, compiled: Compiled) -> Steps:
        """Of each of its steps."""
        steps = self._plans.get(compiled)
        if steps is None:
            steps = [self._of(step.signature) for step in compiled.memories.steps]
            self._plans[compiled] = steps
        return steps

    def of_graph(self, program: Program, kind: Hashable) -> Steps:
        """Of each of its steps, for inputs of that kind."""
        kinds = self._graphs.setdefault(program, OrderedDict())
        if kind not in kinds:
            kinds[kind] = [Took() for _ in program.steps]
            if len(kinds) > KINDS:
                kinds.popitem(last=False)
        return kinds[kind]

    def _of(self, signature: Signature) -> Took:
        took = self._signatures.get(signature)
        if took is None:
            took = self._signatures[signature] = Took()
            if len(self._signatures) > SIGNATURES:
                self._signatures.popitem(last=False)
        return took


def unit_at(steps: Steps, at: int) -> tuple[int, int]:
    """The unit that begins with step ``at``: where it ends, and how long it takes.

    A step that takes long, or nobody knows how long, is a unit alone.
    """
    end, expected_ns = at, 0
    while end < len(steps) and (ns := steps[end].ns) and expected_ns + ns <= GRAIN_NS:
        expected_ns += ns
        end += 1
    return (end, expected_ns) if end > at else (at + 1, steps[at].ns)


def note_unit(steps: Steps, at: int, end: int, took_ns: int) -> None:
    """The steps from ``at`` to before ``end`` took ``took_ns`` together."""
    if end - at == 1:
        steps[at].note(took_ns)
        return
    expected_ns = sum(step.ns for step in steps[at:end])
    if expected_ns and abs(took_ns - expected_ns) * 4 > expected_ns:  # else as it was
        for step in steps[at:end]:
            step.note(step.ns * took_ns // expected_ns)
