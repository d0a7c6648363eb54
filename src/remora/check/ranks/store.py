"""A meeting of the ranks of a running job, in the job's own store.

One round trip each: the store sets a value if the one that is there is what the caller says it is,
and answers with what is there then. Values go round in a window of places, so the store holds
:data:`WINDOW` of a topic however long the job runs.

The store may be in a process that is stopped, and its clients wait for an answer without end. So
a thread asks, and who wants to know waits for that thread, at most :data:`PATIENCE_S` and once.
"""

from __future__ import annotations

import struct
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any, TypeVar

from remora.check.ranks.meeting import Meeting, Said
from remora.core.ranks import Ranks

PATIENCE_S = 5.0
"""A store answers within a millisecond; one that is this late does not answer."""
WINDOW = 256
"""Places of a topic: so many numbers may one rank be ahead of another and still be compared."""
_HEAD = struct.Struct("<QI")
"""Number and rank, before the words."""
Answer = TypeVar("Answer")


class StoreMeeting(Meeting):
    """The ranks that share ``ranks.store``.

    Args:
        prefix: before every key; the same on every rank, and another for another meeting.
        lost: told once, in words, when the store does not answer; from then on nobody is heard.
    """

    def __init__(
        self,
        ranks: Ranks,
        prefix: str,
        lost: Callable[[str], object],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(ranks.rank, ranks.world)
        self._source, self._prefix, self._lost = ranks.store, prefix, lost
        self._store = ranks.store.clone()
        self._asker = _Asker(patience_s)
        self._there: dict[str, bytes] = {}
        """By place, what was there when last heard."""
        self._lock = threading.Lock()
        self._over = False

    def first(self, topic: str, number: int, words: bytes) -> Said | None:
        place = f"{self._prefix}/{topic}/{number % WINDOW}"
        with self._lock:
            found = self._ask(lambda: self._placed(place, number, words))
        if not found:
            return None
        there, rank = _HEAD.unpack_from(found)
        is_other = there == number and rank != self.rank
        return Said(rank, found[_HEAD.size :]) if is_other else None

    def tell(self, key: str, value: bytes) -> None:
        with self._lock:
            self._ask(lambda: self._store.set(f"{self._prefix}/told/{key}", value))

    def told(self, key: str) -> bytes | None:
        name = f"{self._prefix}/told/{key}"
        with self._lock:
            return self._ask(lambda: self._store.get(name) if self._store.check([name]) else None)

    def close(self) -> None:
        """Let the thread end; nobody is heard any more."""
        self._over = True
        self._asker.close()

    def _placed(self, place: str, number: int, words: bytes) -> bytes:
        """What is at ``place`` once these words are there, or others of this number or a later.

        What is there is replaced by what is of a later number alone, so it need not be asked for
        where it is known to be none.
        """
        own = _HEAD.pack(number, self.rank) + words
        found = self._there.get(place, b"")
        while (not found or _number(found) < number) and not self._over:
            found = self._store.compare_set(place, found, own)
        self._there[place] = found
        return found

    def _ask(self, what: Callable[[], Answer]) -> Answer | None:
        if self._over:
            return None
        try:
            return self._asker.ask(what)
        except (RuntimeError, TimeoutError) as error:  # DistStoreError, DistNetworkError
            self.close()
            self._lost(f"the job's store {_reason(error)}")
            return None


def _number(found: bytes) -> int:
    return int(_HEAD.unpack_from(found)[0])


def _reason(error: Exception) -> str:
    return "does not answer" if isinstance(error, TimeoutError) else "is gone"


class _Asker:
    """A thread that does one thing at a time, for one who waits for it."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._asked, self._done = allocate_lock(), allocate_lock()
        self._asked.acquire()
        self._done.acquire()
        self._what: Callable[[], Any] | None = None
        self._answer: Any = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="remora-ranks", daemon=True).start()

    def ask(self, what: Callable[[], Answer]) -> Answer:
        """What ``what`` gives, or raises.

        Raises:
            TimeoutError: it takes too long. The thread is then lost.
        """
        self._what, self._error = what, None
        self._asked.release()
        if not self._done.acquire(timeout=self._patience_s):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """Harmless when done twice."""
        self._what = None
        if self._asked.locked():
            self._asked.release()

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            if (what := self._what) is None:
                return
            try:
                self._answer = what()
            except Exception as error:
                self._error = error
            self._done.release()
