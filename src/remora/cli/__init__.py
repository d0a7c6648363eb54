"""The command line: one file per command, which parses, calls and prints. No logic."""

from __future__ import annotations

from remora.cli.app import main

__all__ = ["main"]
