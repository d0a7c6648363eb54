"""Pieces of memory, gone through from front to back as a socket takes or fills them."""

from __future__ import annotations

from collections.abc import Iterable

MOST_PIECES = 64
"""Handed to one system call; the kernel takes 1,024."""


class Span:
    """The bytes of several pieces of memory, one after another.

    Args:
        pieces: views of bytes; empty ones are skipped.
    """

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        self._pieces = [piece for piece in pieces if piece.nbytes]
        self._first = 0
        """The piece that the front lies in."""
        self._gone = 0
        """Bytes of that piece that are behind the front."""
        self.left = sum(piece.nbytes for piece in self._pieces)

    def front(self, most: int) -> list[memoryview]:
        """The next bytes, at most ``most`` of them: views of the pieces themselves."""
        views: list[memoryview] = []
        place, skip = self._first, self._gone
        while most and place < len(self._pieces) and len(views) < MOST_PIECES:
            view = self._pieces[place][skip : skip + most]
            views.append(view)
            most -= view.nbytes
            place, skip = place + 1, 0
        return views

    def advance(self, count: int) -> None:
        """The next ``count`` bytes are done with."""
        self.left -= count
        while count:
            rest = self._pieces[self._first].nbytes - self._gone
            if count < rest:
                self._gone += count
                return
            count -= rest
            self._first, self._gone = self._first + 1, 0

    def copied(self) -> bytes:
        """All that is left, copied. The front stays where it is."""
        if self._first == len(self._pieces):
            return b""
        first = self._pieces[self._first][self._gone :]
        return b"".join([first, *self._pieces[self._first + 1 :]])

    def fill(self, source: memoryview) -> None:
        """Copy ``source`` into the next bytes; it is no longer than what is left."""
        while source.nbytes and self.left:
            for piece in self.front(source.nbytes):
                piece[:] = source[: piece.nbytes]
                self.advance(piece.nbytes)
                source = source[piece.nbytes :]
