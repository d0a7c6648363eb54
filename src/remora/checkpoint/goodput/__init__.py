"""Useful work per hour under preemptions: traces, the model, and a live mode to check it by."""

from remora.checkpoint.goodput.delimited import COLUMNS, cells, goodput_csv
from remora.checkpoint.goodput.live import Life, Live, Process, Spawned, run_live
from remora.checkpoint.goodput.model import GoodputRow, Line, goodput_table
from remora.checkpoint.goodput.prediction import LiveRow, live_row, pace_of
from remora.checkpoint.goodput.progress import Finished, ProgressLog, read_progress
from remora.checkpoint.goodput.replay import Pace, Replayed, replay
from remora.checkpoint.goodput.schemes import SCHEMES, Job, Point, Scheme, find_scheme
from remora.checkpoint.goodput.synthetic import compressed, exponential_failures, synthetic_trace
from remora.checkpoint.goodput.trace import (
    COUNTINGS,
    Change,
    Counting,
    Reading,
    Trace,
    parse_trace,
    read_trace,
)

__all__ = [
    "COLUMNS",
    "COUNTINGS",
    "SCHEMES",
    "Change",
    "Counting",
    "Finished",
    "GoodputRow",
    "Job",
    "Life",
    "Line",
    "Live",
    "LiveRow",
    "Pace",
    "Point",
    "Process",
    "ProgressLog",
    "Reading",
    "Replayed",
    "Scheme",
    "Spawned",
    "Trace",
    "cells",
    "compressed",
    "exponential_failures",
    "find_scheme",
    "goodput_csv",
    "goodput_table",
    "live_row",
    "pace_of",
    "parse_trace",
    "read_progress",
    "read_trace",
    "replay",
    "run_live",
    "synthetic_trace",
]
