"""Profiles on disk: one file each, so that a job that comes again need not measure again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import xxhash

from remora.core.errors import BadValue
from remora.core.files import UNDECODABLE, write_atomically
from remora.core.saying import say
from remora.core.user_cache import user_cache
from remora.share.slicing.key import Key
from remora.share.slicing.profile import Profile

VERSION = 1
MOST = 4096
"""Profiles that are kept: some hundred operators of some dozen jobs, of about 1 kB each."""
MOST_BYTES = 1 << 20
"""A file beyond this is none of ours: a profile of a list of thousands of tensors is smaller."""
_LOOK_EVERY = 64
"""Writes between looks at how many there are."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    key: Key
    profile: Profile


class Cache:
    """A folder of profiles.

    A file that cannot be read or is not what its name says is passed over, which is said once, and
    written anew. So is a folder that cannot be written to: then nothing is kept.

    Args:
        folder: made when the first profile is kept.
        most: how many are kept; the oldest go.

    Raises:
        BadValue: ``most`` below 1.
    """

    def __init__(
        self, folder: Path, most: int = MOST, report: Callable[[str], object] = say
    ) -> None:
        if most < 1:
            raise BadValue(f"most={most} profiles keep nothing; choose 1 or more")
        self._folder, self._most, self._report = folder, most, report
        self._said: set[str] = set()
        self._writes = 0

    def find(self, key: Key) -> Profile | None:
        """The profile for ``key``, if it is here and whole."""
        path = self._path(key)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise msgspec.ValidationError("too large")
            entry = _opened(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, *UNDECODABLE) as error:
            self._pass_over(path, str(error))
            return None
        if entry.version == VERSION and entry.key == key:
            return entry.profile
        self._pass_over(path, "it is of another version or another call")
        return None

    def keep(self, key: Key, profile: Profile) -> None:
        """Keep ``profile``, whole or not at all."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            data = _sealed(_Entry(VERSION, key, profile))
            if len(data) <= MOST_BYTES:
                write_atomically(self._path(key), data)
            if self._writes % _LOOK_EVERY == 0:
                self._drop_oldest()
        except OSError as error:
            self._say_once("unwritable", f"{self._folder}: profiles are not kept: {error}")
        self._writes += 1

    def _path(self, key: Key) -> Path:
        return self._folder / f"{xxhash.xxh3_128_hexdigest(msgspec.json.encode(key))}.json"

    def _pass_over(self, path: Path, why: str) -> None:
        self._say_once(
            "unreadable",
            f"{path}: passed over, measured again and replaced ({why[:200]}); "
            "so is every other file there that is no profile",
        )

    def _say_once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._report(f"remora: {line}")

    def _drop_oldest(self) -> None:
        with os.scandir(self._folder) as entries:
            ours = [e for e in entries if e.name.endswith(".json")]
        by_age = sorted(ours, key=_modified_ns)
        for entry in by_age[: max(0, len(by_age) - self._most)]:
            Path(entry.path).unlink(missing_ok=True)


def _sealed(entry: _Entry) -> bytes:
    """A line with the digest of what follows: a digit that is another one is still JSON."""
    data = msgspec.json.encode(entry)
    return f"{xxhash.xxh3_128_hexdigest(data)}\n".encode() + data


def _opened(data: bytes) -> _Entry:
    digest, _, body = data.partition(b"\n")
    if digest != xxhash.xxh3_128_hexdigest(body).encode():
        raise msgspec.ValidationError("its digest is another one")
    return msgspec.json.decode(body, type=_Entry)


def _modified_ns(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:  # another process dropped it
        return 0


def default_folder() -> Path:
    """In the user's cache."""
    return user_cache() / "slices"
