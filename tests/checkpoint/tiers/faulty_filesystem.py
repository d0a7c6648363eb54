"""A file system of fsspec whose calls fail when told to, on top of fsspec's own in memory."""

from __future__ import annotations

import errno
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem


class Crash(BaseException):
    """The process is gone: nothing after this call is done either."""


class Faulty:
    """What happens to the calls, of whatever kind, counted from 0."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.crash_at: int | None = None
        self.error: Exception = OSError(errno.EIO, "injected")

    def due(self, kind: str) -> bool:
        """Whether the call is to fail; counts it."""
        number = len(self.calls)
        self.calls.append(kind)
        if self.crash_at is not None and number > self.crash_at:
            raise Crash
        return number in (self.fail_at, self.crash_at)

    def raise_it(self) -> None:
        if self.crash_at is not None:
            raise Crash
        raise self.error

    def check(self, kind: str) -> None:
        if self.due(kind):
            self.raise_it()


class FaultyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The names in it are those of ``memory://``. A failing write has written its first half; a
    failing close, all."""

    protocol = "faulty"
    cachable = False
    now: ClassVar[Faulty] = Faulty()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._inner = MemoryFileSystem()

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self.now.check("open")
        return _FaultyFile(self._inner.open(path, mode, **options), self.now)

    def size(self, path: str) -> int:
        self.now.check("size")
        return int(self._inner.size(path))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        self.now.check("cat_file")
        return bytes(self._inner.cat_file(path, start, end, **options))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self.now.check("ls")
        return self._inner.ls(path, detail, **options)

    def rm_file(self, path: str) -> None:
        self.now.check("rm_file")
        self._inner.rm_file(path)


class _FaultyFile:
    def __init__(self, inner: Any, faulty: Faulty) -> None:
        self._inner, self._faulty = inner, faulty
        self.closed = False

    def write(self, data: bytes) -> int:
        if self._faulty.due("write"):
            self._inner.write(data[: len(data) // 2])
            self._faulty.raise_it()
        return int(self._inner.write(data))

    def close(self) -> None:
        self._inner.close()
        self._faulty.check("close")


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
