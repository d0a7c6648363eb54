"""The one way to the screen: plain text, nothing in it taken for markup."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints names and messages as they are, square brackets included."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
