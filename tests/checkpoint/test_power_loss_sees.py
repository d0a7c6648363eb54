"""The simulation of power loss sees it when a step of the protocol is broken on purpose.

Were one of these to pass unseen, the tests that find nothing would prove nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.checkpoint import runs
from tests.checkpoint.power_loss import (
    Scenario,
    Violation,
    crash_twice,
    explore,
    kill_then_lose_power,
)
from tests.checkpoint.saving import CHUNK

from remora.checkpoint.folder import Folder, Place
from remora.checkpoint.slots import Decision
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage

pytestmark = pytest.mark.usefixtures("small_ring")


# ---------------------------------------------------------------- syncs left out


class _Unsynced(WrappedFile):
    def fdatasync(self) -> None:
        pass


class _WithoutSyncs(WrappedStorage):
    """Files whose names begin with ``of`` are never synced, nor are names where it is "names"."""

    def __init__(self, inner: Storage, of: str) -> None:
        super().__init__(inner)
        self._of = of

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        file = self.inner.open(name, create=create, direct=direct)
        return _Unsynced(file) if name.startswith(self._of) else file

    def sync_names(self) -> None:
        if self._of != "names":
            self.inner.sync_names()


@pytest.mark.parametrize("of", ["slot-", "commits", "archive/", "names"])
def test_every_kind_of_sync_is_needed(of: str) -> None:
    def open_folder(storage: Storage, **options: Any) -> Folder:
        return Folder(_WithoutSyncs(storage, of), **options)

    with pytest.raises(Violation):
        explore(runs.archiving(open_folder), sample=6)


# ---------------------------------------------------------------- steps in another order


class ReusesLiveSlot(Folder):
    """Writes over the checkpoint that the next commit will give up, before that commit."""

    def begin(self) -> Place | None:
        if len(self.live) == self._slots.keep:
            self._slots._live = self.live[:-1]
        return super().begin()


class FreesBeforeTheRecord(Folder):
    """Gives the old checkpoint's slot to the next save while the record is on its way."""

    def _record(self, decision: Decision) -> None:
        self._slots.committed(decision)
        place = self.begin()
        assert place is not None
        place.file.pwrite(memoryview(b"next" * (CHUNK // 4)), CHUNK)
        self.give_back(place)
        self._log.append(decision.live)


class AcknowledgesBeforeTheData(Folder):
    """Writes the record, and then what it lists."""

    def commit(self, place: Place, *rest: object) -> bool:
        late = _Late(place.file)
        done = super().commit(replace(place, file=late), *rest)  # type: ignore[arg-type]
        late.catch_up()
        return done


class _Late(WrappedFile):
    def fdatasync(self) -> None:
        pass

    def catch_up(self) -> None:
        self.inner.fdatasync()


class OpensWithoutRecording(Folder):
    """Believes that what can be read is durable."""

    def _open_log(self) -> None:
        append = self._log.append
        self._log.append = lambda entries: None  # type: ignore[method-assign]
        super()._open_log()
        self._log.append = append  # type: ignore[method-assign]


class StaysInDoubt(Folder):
    """Believes that a record whose sync failed is not there."""

    def begin(self) -> Place | None:
        self._log._in_doubt = False
        return super().begin()


class MovesAfterTheRecord(Folder):
    """Moves to the archive what no record lists any more."""

    def _record(self, decision: Decision) -> None:
        super()._record(decision)
        super()._archive(decision)

    def _archive(self, decision: Decision) -> None:
        pass


class MakesTheSlotAnew(Folder):
    """Puts a new file where the record still lists the one that was moved to the archive."""

    def _archive(self, decision: Decision) -> None:
        super()._archive(decision)
        for entry in decision.gives_up:
            self._files.open(entry.slot).close()


class OpensTheSlotBeforeItsNameIsDurable(Folder):
    """Leaves the names of new files to whoever syncs names next."""

    def begin(self) -> Place | None:
        self._files.sync_names = lambda: None  # type: ignore[method-assign]
        return super().begin()


@pytest.mark.parametrize(
    ("broken", "scenario"),
    [
        (ReusesLiveSlot, runs.one_by_one),
        (FreesBeforeTheRecord, runs.one_by_one),
        (AcknowledgesBeforeTheData, runs.one_by_one),
        (StaysInDoubt, runs.failing_records),
        (OpensTheSlotBeforeItsNameIsDurable, runs.archiving),
    ],
)
def test_power_loss_shows_it(broken: type[Folder], scenario: Scenario) -> None:
    with pytest.raises(Violation):
        explore(scenario(broken), sample=6)


@pytest.mark.parametrize(
    ("broken", "scenario"),
    [(MovesAfterTheRecord, runs.archiving), (MakesTheSlotAnew, runs.archiving)],
)
def test_going_on_shows_it(broken: type[Folder], scenario: Scenario) -> None:
    with pytest.raises(Violation):
        crash_twice(scenario, broken, crashes=60, sample=1)


@pytest.mark.slow
def test_a_process_that_died_shows_it() -> None:
    with pytest.raises(Violation):
        kill_then_lose_power(runs.one_by_one, OpensWithoutRecording, every=1, sample=6)
