"""What a comparison of remote systems must hold to, or its run has failed: the honesty gates.

Published comparisons of this kind have credited a row with work that it did not do, shown numbers
for rows that never ran, and had rows that were to be remote move nothing. Each of these is looked
for here, and a run in which one is found ends with exit code 1, whatever its report says.
"""

from __future__ import annotations

from collections.abc import Iterator

from remora.experiments.disaggregation_rows import DEVICE, PEERS
from remora.lab.report.tables import arm_rows, verdict_text
from remora.lab.results import Analysis, Cell, Comparison

_OURS = "remote"
REMOTE = frozenset({_OURS, DEVICE, *PEERS})
"""Systems whose model is in another process."""
LOCAL_GRAPH = "captured"
"""The system that explains a row of ours that is faster than native: its graph, run here. Nothing
explains a peer's that is: it runs the model's own code, and a way there and back."""


def broken(analysis: Analysis) -> list[str]:
    """What does not hold, in sentences; nothing where all does."""
    return [
        *_different_work(analysis),
        *_moved_nothing(analysis),
        *_miscounted(analysis),
        *_faster_without_reason(analysis),
        *_failed_and_not_said(analysis),
    ]


def _different_work(analysis: Analysis) -> Iterator[str]:
    for one in analysis.comparisons:
        if one.verdict == "void":
            yield f"{one.workload}/{one.label} did other work than native: {one.equal_work}"


def _moved_nothing(analysis: Analysis) -> Iterator[str]:
    for cell in _measured(analysis):
        wire = cell.costs.get("wire_mib")
        if cell.arm.system not in REMOTE:
            continue
        if wire is None:
            yield f"{cell.arm.name} is to be remote, and nothing can tell whether any byte crossed"
        elif wire.min <= 0:
            yield f"{cell.arm.name} is to be remote, and no byte crossed the wire in some trial"


def _miscounted(analysis: Analysis) -> Iterator[str]:
    """Both ends of our own wire count the same bytes; the client asks last, so it may be ahead."""
    for cell in _measured(analysis):
        if cell.arm.system != _OURS:
            continue
        sent, arrived = cell.counts.get("all_sent_bytes"), cell.counts.get("server_received_bytes")
        if sent is not None and arrived is not None and abs(sent.mean - arrived.mean) > _ASKING:
            yield (
                f"{cell.arm.name}: this end sent {sent.mean:.0f} bytes and the server received "
                f"{arrived.mean:.0f}"
            )


_ASKING = 1024
"""Bytes that asking the server for its count takes itself."""


def _faster_without_reason(analysis: Analysis) -> Iterator[str]:
    for one in analysis.comparisons:
        if one.verdict != "gains" or _system(analysis, one) not in REMOTE or one.ratio is None:
            continue
        ours = _system(analysis, one) == _OURS
        graph = _of(analysis, one.workload, LOCAL_GRAPH) if ours else None
        if graph is None or graph.ratio is None or graph.ratio > one.ratio * _SLACK:
            yield (
                f"{one.workload}/{one.label} is faster than native ({one.ratio:.2f} ×) on the same "
                "hardware, and its graph run here is not, or not what it runs: nothing explains it"
            )


_SLACK = 1.1
"""How much slower than the remote row its graph here may seem and still explain it."""


def _failed_and_not_said(analysis: Analysis) -> Iterator[str]:
    """Of a row that has failed there is no number, and the word for it is *failed*."""
    failed = {(c.arm.workload, c.arm.label) for c in analysis.cells if c.failures and not c.trials}
    for one in analysis.comparisons:
        if (one.workload, one.label) in failed and (one.verdict, one.ratio) != ("failed", None):
            yield f"{one.workload}/{one.label} has failed, and is shown as {one.verdict!r}"
    for row in arm_rows(analysis):
        if row.cell.failures and not row.cell.trials and verdict_text(row) != "failed":
            yield f"{row.arm.name} has failed, and the tables say {verdict_text(row)!r}"


def _measured(analysis: Analysis) -> Iterator[Cell]:
    return (cell for cell in analysis.cells if cell.trials)


def _of(analysis: Analysis, workload: str, label: str) -> Comparison | None:
    found = (c for c in analysis.comparisons if (c.workload, c.label) == (workload, label))
    return next(found, None)


def _system(analysis: Analysis, comparison: Comparison) -> str:
    key = (comparison.workload, comparison.label)
    return next((c.arm.system for c in analysis.cells if (c.arm.workload, c.arm.label) == key), "")
