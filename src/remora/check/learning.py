"""Learn from a running job, and keep what is learned safe from its end, whichever way it ends.

Beside the learner runs a checker of what the file said before, and a recorder whose trace is gone
through again at the end: a file never says what its own run does not do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path

from remora.check.checker import Checker, Finding
from remora.check.invariants import (
    Invariants,
    read_invariants,
    says_something,
    write_invariants,
)
from remora.check.learner import InvariantLearner
from remora.check.merging import merge, widened
from remora.check.ranks.kept import MOST_BYTES, KeptTrace, temporary
from remora.check.ranks.meeting import Room
from remora.check.sink import Sink
from remora.check.tee import Tee
from remora.check.trace.replay import Replayed, replay_file
from remora.check.validation import Dropped, Healthy, failed_in, failures, validate, without
from remora.core.errors import InvariantsUnusable

SAVE_EVERY_S = 30.0
"""What a killed job loses at most, unless saving is slow."""
SAVING_SHARE = 0.02
"""Of the run's time, at most, goes into saving on the way."""
THIS_RUN = "this run"


class Learning(Tee):
    """Takes the events of one run and writes what they teach to a file.

    Args:
        path: the file. What it says already stays unless this run shows otherwise.
        program: what the run is called in it.
        say: told of each line for the user.
        world: how many ranks the job has, of which this is the first.
        clock: seconds; for tests.

    Raises:
        InvariantsUnusable: there is something at ``path`` that is no file of invariants.
    """

    def __init__(
        self,
        path: Path,
        program: str,
        say: Callable[[str], object],
        *,
        world: int = 1,
        save_every_s: float = SAVE_EVERY_S,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._program, self._say = path, program, say
        self._every_s, self._clock = save_every_s, clock
        self._before = read_invariants(path) if says_something(path) else None
        self._violated: dict[str, Finding] = {}
        self._broken: list[Finding] = []
        """Those of them that are dropped for it."""
        self._learner = InvariantLearner()
        before = self._before.invariants if self._before is not None else ()
        self._checker = Checker(before, self._violate)
        self._world = world
        self._room = Room(world, most_bytes=most_bytes)
        if world > 1:
            self._learner.join(self._room.seat(0))
        self._others: list[tuple[int, RawIOBase]] = []
        self._recorder = KeptTrace(program=program, most_bytes=most_bytes)
        self._save_at = clock() + save_every_s
        super().__init__(self._learner, self._checker, self._recorder)

    @property
    def functions(self) -> frozenset[str]:
        """Those that what the file said before has to have watched."""
        return self._checker.functions

    def step_ended(self, step: int) -> None:
        with self._lock:
            super().step_ended(step)
            if self._clock() >= self._save_at:
                self._save()

    def trace(self) -> bytes:
        """What was observed, as a recorder writes it."""
        return self._recorder.trace()

    def finish(self, others: Iterable[tuple[int, bytes]] = ()) -> None:
        """The run is over: drop what does not hold, write the rest, and say so.

        Args:
            others: the other ranks, and what :meth:`trace` gave there.

        Raises:
            InvariantsUnusable: the file cannot be written.
        """
        with self._lock:
            self._learner.run_ended(self._program)
            self._recorder.flush()
            for rank, trace in others:
                self._learn_of(rank, trace)
            learned, dropped = self._gone_through(self._learner.invariants())
            self._try_on_others()
            kept, contradicted = self._merged(learned)
            write_invariants(self._path, kept)
        for one in [*dropped, *self._no_longer(), *contradicted]:
            self._say(one.line())
        self._say(f"{kept.in_words()} in {self._path}")

    def close(self) -> None:
        """Let the trace go; harmless when done twice."""
        for file in (self._recorder.kept, *(file for _, file in self._others)):
            file.close()

    # ------------------------------------------------------------ parts

    def _violate(self, finding: Finding) -> None:
        self._violated.setdefault(finding.invariant.name, finding)

    def _save(self) -> None:
        """Write what a killed job leaves; not gone through again, for lack of time."""
        begun = self._clock()
        try:
            learned = self._learner.invariants(running=self._program)
            write_invariants(self._path, self._merged(learned)[0])
        except InvariantsUnusable as error:
            self._say(f"{error}; it is tried again in a while")
        took = self._clock() - begun
        self._save_at = self._clock() + max(self._every_s, took / SAVING_SHARE)

    def _gone_through(self, learned: Invariants) -> tuple[Invariants, tuple[Dropped, ...]]:
        """``learned`` without what does not hold in the very run it is of."""
        validated = validate(learned, self._runs())
        if self._recorder.full:
            self._say(
                f"the run is long: what was learned was tried again on its first "
                f"{validated.trials[0].run.steps:,} steps only"
            )
        return validated.kept, validated.dropped

    def _runs(self) -> list[Healthy[Replayed]]:
        """This run, as ranks that meet anew where it has several."""
        if not self._others:
            return [Healthy(THIS_RUN, partial(_replay, self._recorder.kept, THIS_RUN))]
        room = Room(self._world)
        ranks = [(0, self._recorder.kept), *self._others]
        names = [(rank, file, f"rank {rank} of {THIS_RUN}") for rank, file in ranks]
        return [
            Healthy(called, partial(_replay, file, called), room.seat(rank))
            for rank, file, called in names
        ]

    def _learn_of(self, rank: int, trace: bytes) -> None:
        file = temporary()
        file.write(trace)
        self._others.append((rank, file))
        self._learner.join(self._room.seat(rank))
        _replay(file, f"rank {rank} of {THIS_RUN}", self._learner)
        self._learner.run_ended(self._program, rank)

    def _try_on_others(self) -> None:
        """What the file said before was checked on this rank, and by itself."""
        if self._others and self._before is not None:
            for finding in failures(self._before, self._runs()):
                self._violate(finding)

    def _merged(self, learned: Invariants) -> tuple[Invariants, tuple[Dropped, ...]]:
        """With what the file said before and this run, which it was tried on, has not broken."""
        if self._before is None:
            return learned, ()
        before, learned = widened([self._before, learned])
        names = {one.name for one in before.invariants}  # others, where bounds are wider now
        self._broken = [one for name, one in self._violated.items() if name in names]
        before = without(before, self._violated)
        tried = [(one.name, THIS_RUN) for one in before.invariants]
        merged = merge({str(self._path): before, THIS_RUN: learned}, settled=tried)
        return merged.kept, merged.dropped

    def _no_longer(self) -> list[Dropped]:
        return [failed_in(finding, THIS_RUN) for finding in self._broken]


def _replay(file: RawIOBase, called: str, sink: Sink) -> Replayed:
    file.seek(0)
    reader = BufferedReader(file)
    try:
        return replay_file(reader, called, sink)
    finally:
        reader.detach()  # or it would close the file
