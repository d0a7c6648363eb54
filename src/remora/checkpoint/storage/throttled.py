"""A storage as slow as a cloud disk, so that conclusions hold there as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage


class Throttle:
    """Lets bytes pass at ``bytes_per_s``, whoever asks, without letting unused time be saved up."""

    def __init__(
        self,
        bytes_per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s, self._clock, self._sleep = bytes_per_s, clock, sleep
        self._free_at = 0.0
        self._guard = threading.Lock()

    def now(self) -> float:
        return self._clock()

    def charge(self, count: int, began: float) -> None:
        """Return when ``count`` more bytes, sent off at ``began``, would have gone through."""
        with self._guard:
            begins = max(began, self._free_at)
            self._free_at = ends = begins + count / self._bytes_per_s
        wait = ends - self._clock()
        if wait > 0:
            self._sleep(wait)


class _ThrottledFile(WrappedFile):
    def __init__(self, inner: StorageFile, throttle: Throttle) -> None:
        super().__init__(inner)
        self._throttle = throttle

    def pwrite(self, data: memoryview, offset: int) -> None:
        began = self._throttle.now()
        self.inner.pwrite(data, offset)
        self._throttle.charge(len(data), began)


class ThrottledStorage(WrappedStorage):
    """``inner``, whose writes take at least ``bytes / bytes_per_s`` seconds, all together."""

    def __init__(self, inner: Storage, bytes_per_s: float) -> None:
        super().__init__(inner)
        self._throttle = Throttle(bytes_per_s)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return _ThrottledFile(self.inner.open(name, create=create, direct=direct), self._throttle)
