"""Which scheme's goodput a system of the lab follows."""

from __future__ import annotations

from remora.checkpoint.goodput.model import Line
from remora.checkpoint.goodput.schemes import find_scheme
from remora.checkpoint.goodput.throughputs import Throughputs

_SCHEME_OF = {
    "remora-checkpoint": "remora",
    "gemini-like": "gemini",
    "checkfreq-like": "checkfreq",
    "dcp-async": "checkfreq",
    "dcp-async-process": "checkfreq",
    "torch-checkpointing": "checkfreq",
    "torchsnapshot": "checkfreq",
    "gpm-like": "gpm",
    "torch-save": "gpm",
    "torch-save-nosync": "gpm",
    "safetensors-save": "gpm",
    "dcp-save": "gpm",
}


def lines_of(measured: Throughputs) -> list[Line]:
    """A line for every measured system whose scheme is known."""
    return [
        Line(system, find_scheme(_SCHEME_OF[system]), points)
        for system, points in measured.points.items()
        if system in _SCHEME_OF
    ]
