"""A shelf in an object store, or in any place that fsspec has a file system for.

All names lie side by side under the URL::

    owner.json
    checkpoint-<generation>-<sequence>-<session>.part-0000-of-0001.safetensors
    checkpoint-<generation>-<sequence>-<session>.json       the manifest

Object stores have no rename, so the manifest is the commit: it is written last, when every byte of
the data is there, and removed first. Data without a manifest is what a crash left, and is
removed with the next copies that are.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from remora.checkpoint.tiers.contract import Copy, Owner, Part, Shelf, check_owner, succeed
from remora.checkpoint.tiers.manifest import (
    MAX_BYTES,
    decode_copy,
    decode_owner,
    encode_copy,
    encode_owner,
)
from remora.core.errors import BadValue, CheckpointDamaged, RemoraError, Unavailable
from remora.core.files import sync_directory

_OWNER = "owner.json"
_PREFIX = "checkpoint-"


class ObjectShelf(Shelf):
    """The shelf at ``url``. Nothing is asked over the network before the first call.

    Args:
        options: what the file system is made with, besides what fsspec's own configuration says.

    Raises:
        BadValue: fsspec knows no such URL.
        Unavailable: fsspec, or its package for this protocol, is not installed.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.place = url
        self._fs, root = _filesystem(url, options)
        self._root = root.rstrip("/")
        self._local = "file" in _protocols(self._fs)
        self._owner: Owner | None = None

    # ------------------------------------------------------------ the owner

    def owner(self) -> Owner | None:
        try:
            return decode_owner(self._read(_OWNER))
        except (FileNotFoundError, CheckpointDamaged):
            return None  # a card that a crash has torn is nobody's: whoever comes writes it anew

    def claim(self, run: str, who: str) -> Owner:
        newest = max((copy.generation for copy in self.copies()), default=0)
        owner = succeed(self.owner(), newest, run, who, self.place)
        self._write(_OWNER, [memoryview(encode_owner(owner))])
        self._owner = owner
        return owner

    # ------------------------------------------------------------ copies

    def copies(self) -> list[Copy]:
        names = [name for name in self._names() if _is_manifest(name)]
        found = [self._copy(name) for name in names]
        return sorted((each for each in found if each), key=lambda each: each.age, reverse=True)

    def _copy(self, name: str) -> Copy | None:
        try:
            copy = decode_copy(self._read(name))
        except (FileNotFoundError, CheckpointDamaged):
            return None
        return copy if _manifest_name(copy) == name else None

    def put(self, copy: Copy, parts: Sequence[Part]) -> None:
        if self._copy(_manifest_name(copy)) == copy:
            return  # written before, though the answer was lost: not to be written over
        for number, (pieces, size) in enumerate(zip(parts, copy.sizes, strict=True)):
            self._write(_part_name(copy, number), pieces)
            self._check_size(_part_name(copy, number), size)
        check_owner(self.owner(), copy.session, self.place)
        self._write(_manifest_name(copy), [memoryview(encode_copy(copy))])

    def _check_size(self, name: str, size: int) -> None:
        with _as_oserror():
            found = self._fs.size(self._path(name))
        if found != size:
            raise OSError(errno.EIO, f"{name} has {found} bytes there, and {size} were sent")

    def retain(self, keep: int) -> None:
        """Manifests go first, so that no manifest ever lists data that is gone."""
        copies = self.copies()
        for copy in copies[keep:]:
            self._remove(_manifest_name(copy))
        stay = {_stem(copy) for copy in copies[:keep]}
        ours = self._owner.generation if self._owner else 0
        for name in self._names():
            stem, generation = _parsed(name)
            if stem and stem not in stay and generation <= ours:  # not what a successor is writing
                self._remove(name)

    def pread(self, copy: Copy, part: int, buffer: memoryview, offset: int) -> int:
        end = min(offset + len(buffer), copy.sizes[part])
        if end <= offset:
            return 0
        with _as_oserror():
            path = self._path(_part_name(copy, part))
            data = self._fs.cat_file(path, start=offset, end=end)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        pass

    # ------------------------------------------------------------ objects by name

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _names(self) -> list[str]:
        with _as_oserror():
            self._fs.invalidate_cache()
            try:
                listed = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(path).name for path in listed)

    def _read(self, name: str) -> bytes:
        """A small object of ours, as it is now."""
        with _as_oserror():
            self._fs.invalidate_cache()
            if self._fs.size(self._path(name)) > MAX_BYTES:
                raise CheckpointDamaged(f"{name} is larger than any of ours")
            return bytes(self._fs.cat_file(self._path(name)))

    def _write(self, name: str, pieces: Iterable[memoryview]) -> None:
        with _as_oserror():
            file = self._open(name)
        try:
            for piece in pieces:  # what the pieces themselves raise is none of the store's
                with _as_oserror():
                    file.write(bytes(piece))  # some file systems keep what they are given
            with _as_oserror():
                self._finish(file)
        except BaseException:
            _abandon(file)
            raise

    def _finish(self, file: Any) -> None:
        if self._local:
            file.flush()
            os.fsync(file.fileno())
        file.close()
        if self._local:
            sync_directory(Path(self._root))

    def _open(self, name: str) -> Any:
        try:
            return self._fs.open(self._path(name), "wb")
        except FileNotFoundError:  # where there are folders, ours may not be there yet
            self._fs.makedirs(self._root, exist_ok=True)
            return self._fs.open(self._path(name), "wb")

    def _remove(self, name: str) -> None:
        with _as_oserror(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))


def _filesystem(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise Unavailable(
            f"{url!r} needs fsspec; pip install 'remora[elsewhere]', or copy to a peer:// instead"
        ) from None
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise Unavailable(f"{url!r} needs a package that is not here: {error}") from None
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"{url!r} cannot be opened: {error}; choose a URL such as s3://bucket/run, "
            "file:///mnt/run or peer://host:7718/run"
        ) from None
    return fs, str(root)


def _abandon(file: Any) -> None:
    """Close what has failed; what is there of it then, no manifest lists."""
    with contextlib.suppress(Exception):  # the first error is the one to tell
        file.close()
    with contextlib.suppress(Exception):  # or it would be tried once more by the collector
        file.closed = True


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


@contextlib.contextmanager
def _as_oserror() -> Iterator[None]:
    """File systems raise what their libraries raise; all of it means that it did not work."""
    try:
        yield
    except (OSError, RemoraError):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- names


def _stem(copy: Copy) -> str:
    return f"{_PREFIX}{copy.generation:06}-{copy.entry.sequence:012}-{copy.session}"


def _manifest_name(copy: Copy) -> str:
    return f"{_stem(copy)}.json"


def _part_name(copy: Copy, part: int) -> str:
    return f"{_stem(copy)}.part-{part:04}-of-{copy.entry.parts:04}.safetensors"


def _is_manifest(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(".json")


def _parsed(name: str) -> tuple[str, int]:
    """The stem and the generation that a name tells; no stem where it is not one of ours."""
    stem = name.partition(".")[0]
    fields = stem.split("-")
    ours = len(fields) == 4 and name.startswith(_PREFIX) and fields[1].isdigit()
    return (stem, int(fields[1])) if ours else ("", 0)
