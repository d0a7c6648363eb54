"""What the lab measured, as the model takes it: a report's ``results.json``, read as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from remora.checkpoint.goodput.schemes import Point
from remora.core.errors import BadValue, UnknownName


@dataclass(frozen=True)
class Throughputs:
    """Of one workload: its step without checkpoints, and each system's points by interval."""

    step_s: float
    points: Mapping[str, tuple[Point, ...]]


class _Spread(msgspec.Struct, frozen=True):
    mean: float


class _Arm(msgspec.Struct, frozen=True):
    workload: str
    system: str
    label: str
    role: str
    options: dict[str, int | float | str | bool] = {}


class _Cell(msgspec.Struct, frozen=True):
    arm: _Arm
    step_ms: _Spread | None
    stall_ms: _Spread | None
    costs: dict[str, _Spread] = {}


class _Comparison(msgspec.Struct, frozen=True):
    workload: str
    label: str
    ratio: float | None


class _Results(msgspec.Struct, frozen=True):
    """The part of a results file that is used here; docs/results-format.md has all of it."""

    version: int
    cells: list[_Cell]
    comparisons: list[_Comparison]


def read_throughputs(path: Path, workload: str) -> Throughputs:
    """The measured points of ``workload`` in the results file ``path``.

    Arms with an option ``every`` count, in the order of their intervals; one that failed or has no
    ratio is left out. The time until durable is the longer of the mean stall and the mean time to
    drain what was pending at the end: exact for a system that writes while training waits.

    Raises:
        BadValue: no results file, or nothing in it that the model could use.
        UnknownName: no such workload in it.
    """
    results = _decode(path)
    cells = [cell for cell in results.cells if cell.arm.workload == workload]
    if not cells:
        raise UnknownName("workload", workload, {cell.arm.workload for cell in results.cells})
    ratios = {c.label: c.ratio for c in results.comparisons if c.workload == workload}
    points = _points(cells, ratios)
    if not points:
        raise BadValue(f"{path}: no arm of {workload} has an option 'every' and a ratio to native")
    return Throughputs(_step_s(cells, path), points)


def _decode(path: Path) -> _Results:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Results)
    except OSError as error:
        raise BadValue(f"{path}: {error.strerror}; give a report's results.json") from error
    except msgspec.MsgspecError as error:
        raise BadValue(f"{path} is not a report's results.json: {error}") from error


def _step_s(cells: Iterable[_Cell], path: Path) -> float:
    for cell in cells:
        if cell.arm.role == "baseline" and cell.step_ms:
            return cell.step_ms.mean / 1000
    raise BadValue(f"{path}: no native arm that succeeded; run the experiment with one")


def _points(
    cells: Iterable[_Cell], ratios: Mapping[str, float | None]
) -> dict[str, tuple[Point, ...]]:
    found: dict[str, list[Point]] = defaultdict(list)
    for cell in cells:
        every, ratio = cell.arm.options.get("every"), ratios.get(cell.arm.label)
        if cell.arm.role == "system" and isinstance(every, int) and ratio:
            found[cell.arm.system].append(_point(cell, every, ratio))
    return {name: tuple(sorted(each, key=lambda p: p.every)) for name, each in found.items()}


def _point(cell: _Cell, every: int, ratio: float) -> Point:
    in_flight = cell.arm.options.get("in_flight", 1)
    stall, drain = cell.stall_ms, cell.costs.get("drain_ms")
    return Point(
        every=every,
        throughput=1 / ratio,
        write_s=max(stall.mean if stall else 0.0, drain.mean if drain else 0.0) / 1000,
        in_flight=in_flight if isinstance(in_flight, int) else 1,
    )
