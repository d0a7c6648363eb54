"""Invariants, and the file they are kept in.

A file is JSON lines: a header that says what the invariants were learned from, then one invariant
a line. It holds names and plain values only, and is read by schema: nothing in it is evaluated.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from remora.check.conditions import ALWAYS, Condition
from remora.check.relations.registry import AnyClaim, relation_of
from remora.core.errors import InvariantsUnusable
from remora.core.files import UNDECODABLE, write_atomically

FORMAT = "remora-invariants"
VERSION = 1


class Invariant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim, when it holds, and what it was learned from."""

    claim: AnyClaim
    when: Condition = ALWAYS
    support: int = 0
    """Examples it held in."""
    against: int = 0
    """Examples in which the claim did not hold and the condition was not met."""

    @property
    def name(self) -> str:
        """Eight hex digits of what it says, support aside: the same in every file."""
        said = msgspec.json.encode((self.claim, self.when), order="deterministic")
        return hashlib.sha256(said).hexdigest()[:8]

    @property
    def relation(self) -> str:
        return relation_of(self.claim).name

    def words(self) -> str:
        return f"{self.claim.words()} {self.when.words()}".rstrip()


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that was learned from."""

    program: str
    steps: int
    calls: dict[str, int] = {}
    """By function, how often it was called."""
    rank: int = 0
    """Which of the processes of a job of several."""


class HeldOut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A healthy run that was not learned from; what failed in it was dropped."""

    program: str
    steps: int
    dropped: tuple[str, ...] = ()
    """Names of the invariants that did not hold."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str = FORMAT
    version: int = VERSION
    torch: str | None = None
    sources: tuple[Source, ...] = ()
    held_out: tuple[HeldOut, ...] = ()


class Invariants(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds."""

    header: Header
    invariants: tuple[Invariant, ...]

    def in_words(self) -> str:
        """How many, of how much: ``64 invariants of 120 steps of 2 runs``.

        Ranks of one run take the same steps.
        """
        runs = [source for source in self.header.sources if not source.rank]
        ranks = len(self.header.sources) - len(runs)
        of = f" of {len(runs)} runs" if len(runs) > 1 else ""
        on = f" on {len(runs) + ranks} ranks" if ranks else ""
        steps = counted(sum(source.steps for source in runs), "step")
        return f"{counted(len(self.invariants), 'invariant')} of {steps}{of}{on}"


def write_invariants(path: Path, invariants: Invariants) -> None:
    """Replace ``path`` in one piece.

    Raises:
        InvariantsUnusable: it cannot be written.
    """
    encode = msgspec.json.Encoder(order="deterministic").encode
    lines = [encode(invariants.header), *map(encode, invariants.invariants)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"\n".join(lines) + b"\n")
    except OSError as error:
        raise InvariantsUnusable(f"{path} cannot be written: {error.strerror}") from None


def writable(path: Path) -> None:
    """Find out before a long run whether a file can be written there.

    Raises:
        InvariantsUnusable: it cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InvariantsUnusable(f"{path} cannot be written: {error.strerror}") from None


def read_invariants(path: Path) -> Invariants:
    """Read a file of invariants.

    Raises:
        InvariantsUnusable: it is not there, none of ours, or damaged; the line is named.
    """
    lines = read_lines(path)
    header = _header_of(path, lines)
    return Invariants(header=header, invariants=tuple(_invariants_of(path, lines[1:])))


def counted(number: int, noun: str) -> str:
    """``1 step``, ``1,000 steps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def says_something(path: Path) -> bool:
    """Whether there is a file that is not empty, as a new one is."""
    return path.exists() and path.stat().st_size > 0


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file of invariants of whichever kind.

    Raises:
        InvariantsUnusable: it cannot be read, or is empty.
    """
    next_step = f"learn invariants with `remora run --learn {path} script.py`"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise InvariantsUnusable(f"{path} cannot be read: {error.strerror}; {next_step}") from None
    except OSError as error:
        raise InvariantsUnusable(
            f"{path} cannot be read: {error.strerror}; choose a file of invariants"
        ) from None
    if not any(map(bytes.strip, lines)):
        raise InvariantsUnusable(f"{path} is empty; {next_step}")
    return lines


def _header_of(path: Path, lines: list[bytes]) -> Header:
    try:
        header = msgspec.json.decode(lines[0], type=Header)
    except UNDECODABLE as error:
        raise InvariantsUnusable(
            f"{path}, line 1: no file of invariants ({error}); "
            "`remora invariants convert` reads TrainCheck's"
        ) from None
    if header.format != FORMAT or header.version != VERSION:
        raise InvariantsUnusable(
            f"{path} is a {header.format} of version {header.version}; this Remora reads "
            f"{FORMAT} of version {VERSION}"
        )
    return header


def _invariants_of(path: Path, lines: Iterable[bytes]) -> Iterable[Invariant]:
    decoder = msgspec.json.Decoder(Invariant)
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except UNDECODABLE as error:
            raise InvariantsUnusable(
                f"{path}, line {number}: {error}; the file is damaged or of another version: "
                "take the line out, or learn anew"
            ) from None
