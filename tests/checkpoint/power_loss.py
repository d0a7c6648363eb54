"""Every state that a crash may leave of a run, and what must be found there.

A :class:`Run` drives a folder over a storage in memory and notes what it was promised, and when:
by how long the storage's log was. :func:`explore` then loses power behind every entry of the log
and recovers from what may be left; :class:`Violation` says which promise was broken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from tests.checkpoint import saving
from tests.checkpoint.saving import Saving

from remora.checkpoint import reading
from remora.checkpoint.commit import CommitLog
from remora.checkpoint.folder import Folder, Place
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.reading import Found, Reader
from remora.checkpoint.sharded.coordinator import Coordinator
from remora.checkpoint.sharded.folders import Follower, Leader
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import CheckpointDamaged


class Violation(Exception):
    """A promise that was not kept."""


@dataclass
class Promises:
    """What was promised, with the length of the log from which on it must hold."""

    acknowledged: list[tuple[int, Entry]] = field(default_factory=list)
    dropped: list[tuple[int, Entry]] = field(default_factory=list)
    """Asked to be given up: from then on they are promised no longer."""
    kept_for_good: list[tuple[int, Entry]] = field(default_factory=list)
    scales: dict[int, int] = field(default_factory=dict)
    """How large the state of each step is."""

    def newest(self, at: int) -> int:
        """The sequence of the newest checkpoint that must be found; 0 where none must."""
        return max((entry.sequence for entry in self._standing(self.acknowledged, at)), default=0)

    def _standing(self, promises: list[tuple[int, Entry]], at: int) -> list[Entry]:
        dropped = {entry for when, entry in self.dropped if when <= at}
        return sorted(e for when, e in promises if when <= at and e not in dropped)

    def for_good(self, at: int) -> dict[int, int]:
        """For every step that must stay for good, the least sequence that it must be found with:
        one that is saved again takes the place of the one before.
        """
        standing = self._standing(self.kept_for_good, at)
        return {entry.step: entry.sequence for entry in standing}

    def by(self, at: int) -> Promises:
        """Those of a run that ended there."""
        acknowledged, dropped, kept = (
            [each for each in promises if each[0] <= at]
            for promises in (self.acknowledged, self.dropped, self.kept_for_good)
        )
        return Promises(acknowledged, dropped, kept, self.scales)


OpenFolder = Callable[..., Folder]
Scenario = Callable[[OpenFolder], "Run"]


class Run:
    """A job that saves into ``storage``; opens the folder, whatever is there."""

    def __init__(
        self,
        storage: MemoryStorage,
        open_folder: OpenFolder = Folder,
        *,
        promises: Promises | None = None,
        keep: int = 2,
        keep_every: int | None = None,
        size: int = 6 * saving.CHUNK,
    ) -> None:
        self.storage, self.keep_every = storage, keep_every
        self.promises = promises or Promises()
        self.size = size
        self.folder = self.opened(open_folder, keep=keep, in_flight=2, keep_every=keep_every)
        try:
            self.resize(size)
        except BaseException:
            self.folder.close()
            raise

    def opened(self, open_folder: OpenFolder, **keeping: int | None) -> Folder:
        return open_folder(self.storage, now_ns=lambda: 0, **keeping)

    @property
    def now(self) -> int:
        return len(self.storage.log)

    def resize(self, size: int) -> None:
        self.size = size
        self.folder.prepare(size)

    def begin(self, step: int, scale: int = 1) -> Saving:
        self.promises.scales[step] = scale
        return saving.begin(self.folder, step, scale=scale, size=self.size)

    def commit(self, save: Saving) -> bool:
        if not save.commit(self.folder):
            return False
        entry = saving.committed(self.folder, save)
        self.promises.acknowledged.append((self.now, entry))
        if self.keep_every and entry.step % self.keep_every == 0:
            self.promises.kept_for_good.append((self.now, entry))
        return True

    def save(self, step: int, scale: int = 1) -> bool:
        save = self.begin(step, scale)
        save.write_all()
        return self.commit(save)

    def drop(self, entry: Entry) -> None:
        self.promises.dropped.append((self.now, entry))
        self.folder.drop(entry)


class Store:
    """What ranks share; one that asks for what is not there would wait for ever."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self.set, self.get = self._values.__setitem__, self._values.__getitem__

    def clone(self) -> Store:
        return self

    def set_timeout(self, patience: timedelta) -> None:
        """Nobody waits."""


@dataclass
class BothSavings:
    """A save of two ranks, each chunk of the one beside that of the other."""

    ranks: tuple[Saving, Saving]
    follower: Follower

    @property
    def place(self) -> Place:
        return self.ranks[0].place

    @property
    def layout(self) -> SlotLayout:
        return self.ranks[0].layout

    def write(self, index: int) -> None:
        for each in self.ranks:
            each.write(index)

    def write_all(self) -> None:
        for index in range(self.layout.chunks):
            self.write(index)

    def commit(self, folder: Folder) -> bool:
        """The follower tells that its part is durable, then the leader commits."""
        self.ranks[1].commit(self.follower)
        return self.ranks[0].commit(folder)


class TwoRanks(Run):
    """A job of two ranks, that save a part each."""

    def opened(self, open_folder: OpenFolder, **keeping: int | None) -> Folder:
        store = Store()
        leads, follows = Coordinator(store, 0, 2, number=0), Coordinator(store, 1, 2, number=0)
        self.follower = Follower(self.storage, follows)
        return Leader(self.storage, leads, now_ns=lambda: 0, **keeping)

    def resize(self, size: int) -> None:
        super().resize(size)
        self.follower.prepare(size)

    def begin(self, step: int, scale: int = 1) -> BothSavings:  # type: ignore[override]
        leads = super().begin(step, scale)
        beyond = step + saving.RANK_STEP
        follows = saving.begin(self.follower, beyond, scale=scale, size=self.size)
        return BothSavings((leads, follows), self.follower)

    def give_back(self, save: BothSavings) -> None:
        self.follower.give_back(save.ranks[1].place)
        self.folder.give_back(save.place)


class Recovery:
    """Recovers, and remembers what it has found of files with the same bytes."""

    def __init__(self, scales: dict[int, int]) -> None:
        self._scales = scales
        self._known: dict[tuple[Entry | bytes, ...], bool] = {}
        self.states = 0

    def whole(self, storage: MemoryStorage, found: Found) -> bool:
        """Whether ``found`` can be read; what is read must be what was saved."""
        names = sorted({name for names in found.places() for name in names})
        files = [storage.disk.files.get(storage.disk.names.get(name, -1), b"") for name in names]
        key: tuple[Entry | bytes, ...] = (found.entry, *map(bytes, files))
        if key not in self._known:
            self._known[key] = self._read(storage, found)
        return self._known[key]

    def _read(self, storage: MemoryStorage, found: Found) -> bool:
        try:
            reader = Reader(storage, found)
            reader.verify()
        except CheckpointDamaged:
            return False
        step = found.entry.step
        wrong = saving.differs(reader, step, self._scales[step])
        if wrong is not None:
            raise Violation(f"step {step} is read as whole, but {wrong} is not as saved")
        return True

    def check(self, storage: MemoryStorage, promises: Promises, at: int) -> list[Entry]:
        """What is whole, in the order in which it would be restored.

        Raises:
            Violation: something that was promised by ``at`` is not there.
        """
        self.states += 1
        found = reading.checkpoints(storage)
        whole = [each for each in found if self.whole(storage, each)]
        there = {each.entry.sequence for each in whole}
        first = next((each.entry.sequence for each in whole), 0)
        if first < promises.newest(at):
            raise Violation(f"{promises.newest(at)} was acknowledged; found {first} of {there}")
        if lost := {each.entry.sequence for each in found if each.kind == "live"} - there:
            raise Violation(f"{sorted(lost)} are listed as live and are not whole")
        steps = {entry.step: entry.sequence for entry in sorted(each.entry for each in whole)}
        for step, sequence in promises.for_good(at).items():
            if steps.get(step, 0) < sequence:
                raise Violation(f"step {step} was to be kept for good")
        return [each.entry for each in whole]


Survives = Callable[[int], bool]


def subsets(count: int, draw: random.Random, sample: int | None) -> Iterator[Survives]:
    """Which of ``count`` unsynced sectors survive.

    None and all, always. Then each alone, each lost, every torn prefix, and as many random subsets
    as there are sectors; or ``sample`` of those.
    """
    yield lambda index: False
    if count == 0:
        return
    yield lambda index: True
    rest: list[tuple[str, int]] = [
        (kind, number) for kind in ("alone", "lost", "prefix", "random") for number in range(count)
    ]
    if sample is not None and sample < len(rest):
        rest = draw.sample(rest, sample)
    for kind, number in rest:
        yield _subset(kind, number, count, draw)


def _subset(kind: str, number: int, count: int, draw: random.Random) -> Survives:
    match kind:
        case "alone":
            return lambda index: index == number
        case "lost":
            return lambda index: index != number
        case "prefix":
            return lambda index: index <= number
    chosen = {index for index in range(count) if draw.random() < 0.5}
    return lambda index: index in chosen


def states(
    storage: MemoryStorage, at: int, draw: random.Random, sample: int | None
) -> Iterator[MemoryStorage]:
    """What power loss behind the first ``at`` changes may leave."""
    loss = storage.power_loss(at)
    for names in range(len(loss.names) + 1):
        for survives in subsets(len(loss.sectors), draw, sample):
            yield loss.found(survives, names)


def explore(
    run: Run,
    *,
    sample: int | None,
    since: int = 0,
    recovery: Recovery | None = None,
    seed: int = 0,
) -> int:
    """Lose power behind every change of the run from number ``since`` on; count the states.

    Raises:
        Violation: in one of them a promise is broken.
    """
    draw = random.Random(seed)
    recovery = recovery or Recovery(run.promises.scales)
    before = recovery.states
    for at in range(since, run.now + 1):
        for found in states(run.storage, at, draw, sample):
            try:
                recovery.check(found, run.promises, at)
            except Violation as violation:
                last = run.storage.log[at - 1] if at else None
                raise Violation(f"{violation} (behind change {at}, {last and last.kind})") from None
    return recovery.states - before


def inherited(found: list[Entry], live: tuple[Entry, ...], promises: Promises, at: int) -> Promises:
    """What holds for the run after a crash: all that it found, and all that is kept for good."""
    newest = max((entry for entry in found if entry in live), default=None)
    kept = promises.for_good(at)
    return Promises(
        acknowledged=[(0, newest)] if newest else [],
        kept_for_good=[(0, each) for each in found if kept.get(each.step) == each.sequence],
        scales=promises.scales,
    )


def go_on(run: Run, open_folder: OpenFolder, storage: MemoryStorage, promises: Promises) -> Run:
    """The job that comes after a crash: it opens what is there, and saves twice more."""
    again = type(run)(
        storage, open_folder, promises=promises, keep_every=run.keep_every, size=run.size
    )
    again.save(100)
    again.save(102)
    return again


def crash_twice(scenario: Scenario, open_folder: OpenFolder, crashes: int, sample: int) -> None:
    """Power is lost, the next job goes on from what it finds, and power is lost again."""
    run = scenario(open_folder)
    draw = random.Random(1)
    recovery = Recovery(run.promises.scales)
    for _ in range(crashes):
        at = draw.randrange(run.now + 1)
        storage = draw.choice(list(states(run.storage, at, draw, 20)))
        found = recovery.check(storage, run.promises, at)
        promises = inherited(found, CommitLog(storage).newest.entries, run.promises, at)
        explore(go_on(run, open_folder, storage, promises), sample=sample, seed=at)


def kill_then_lose_power(
    scenario: Scenario, open_folder: OpenFolder, every: int, sample: int | None
) -> None:
    """What was not synced when the process died is visible to the next; then it is lost."""
    run = scenario(open_folder)
    for at in range(run.now % every, run.now + 1, every):
        again = go_on(run, open_folder, run.storage.after_kill(at), run.promises.by(at))
        explore(again, sample=sample, since=at, seed=at)
