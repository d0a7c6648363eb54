"""Learn from a running job, and keep what is learned safe from its end, whichever way it ends.

Beside the learner runs a checker of what the file said before, and a recorder whose trace is gone
through again at the end: a file never says what its own run does not do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import cast

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariants, read_invariants, write_invariants
from remora.check.learner import InvariantLearner
from remora.check.merging import merge
from remora.check.sink import Sink
from remora.check.tee import Tee
from remora.check.trace.recorder import Recorder
from remora.check.trace.replay import Replayed, replay_file
from remora.check.validation import Dropped, failed_in, validate, without
from remora.core.errors import InvariantsUnusable

SAVE_EVERY_S = 30.0
"""What a killed job loses at most, unless saving is slow."""
SAVING_SHARE = 0.02
"""Of the run's time, at most, goes into saving on the way."""
MOST_BYTES_AGAIN = 64 << 20
"""Of the run's trace that is kept to go through again: about two million events."""
THIS_RUN = "this run"


class Learning(Tee):
    """Takes the events of one run and writes what they teach to a file.

    Args:
        path: the file. What it says already stays unless this run shows otherwise.
        program: what the run is called in it.
        say: told of each line for the user.
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
        save_every_s: float = SAVE_EVERY_S,
        most_bytes: int = MOST_BYTES_AGAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._program, self._say = path, program, say
        self._every_s, self._clock = save_every_s, clock
        self._before = read_invariants(path) if path.exists() else None
        self._violated: dict[str, Finding] = {}
        self._learner = InvariantLearner()
        before = self._before.invariants if self._before is not None else ()
        self._checker = Checker(before, self._violate)
        self._trace = cast(RawIOBase, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        self._recorder = Recorder(self._trace, program=program, most_bytes=most_bytes)
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

    def finish(self) -> None:
        """The run is over: drop what does not hold, write the rest, and say so.

        Raises:
            InvariantsUnusable: the file cannot be written.
        """
        with self._lock:
            self._learner.run_ended(self._program)
            learned, dropped = self._gone_through(self._learner.invariants())
            kept, contradicted = self._merged(learned)
            write_invariants(self._path, kept)
        for one in [*dropped, *self._no_longer(), *contradicted]:
            self._say(one.line())
        self._say(f"{kept.in_words()} in {self._path}")

    def close(self) -> None:
        """Let the trace go; harmless when done twice."""
        self._trace.close()

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
        self._recorder.flush()
        self._trace.seek(0)
        validated = validate(learned, [(THIS_RUN, self._replay)])
        if self._recorder.full:
            self._say(
                f"the run is long: what was learned was tried again on its first "
                f"{validated.trials[0].run.steps:,} steps only"
            )
        return validated.kept, validated.dropped

    def _replay(self, sink: Sink) -> Replayed:
        with BufferedReader(self._trace) as file:
            return replay_file(file, THIS_RUN, sink)

    def _merged(self, learned: Invariants) -> tuple[Invariants, tuple[Dropped, ...]]:
        """With what the file said before and this run, which it was tried on, has not broken."""
        if self._before is None:
            return learned, ()
        before = without(self._before, self._violated)
        tried = [(one.name, THIS_RUN) for one in before.invariants]
        merged = merge({str(self._path): before, THIS_RUN: learned}, settled=tried)
        return merged.kept, merged.dropped

    def _no_longer(self) -> list[Dropped]:
        return [failed_in(finding, THIS_RUN) for finding in self._violated.values()]
