"""The curves of a report as data: one point an arm, joined along what differs between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remora.lab.report.tables import ArmRow, arm_rows, by_workload
from remora.lab.results import Analysis, Curve, Interval, Option, Plan

THROUGHPUT = "throughput"


@dataclass(frozen=True)
class Point:
    """Where something lies, how far off that may be, and the arm it is of, if it is of one."""

    at: float
    value: float
    low: float | None = None
    high: float | None = None
    row: ArmRow | None = None

    @property
    def complete(self) -> bool:
        """Whether every checkpoint that the arm's interval asked for was made."""
        return self.row is None or self.row.cell.calls >= self.row.cell.calls_due


@dataclass(frozen=True)
class Line:
    """Points that differ in one thing only, in its order."""

    system: str
    words: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """The lines that share axes."""

    title: str
    lines: tuple[Line, ...]


def panels(analysis: Analysis, curve: Curve) -> list[Panel]:
    """One panel a workload; a single one where the curve is over a size of the workloads."""
    rows = arm_rows(analysis)
    if _over_size(analysis.plan, curve.over):
        return _of("by size", _lines_over_size(analysis, rows, curve))
    found: list[Panel] = []
    for workload, group in by_workload(rows).items():
        found += _of(workload, _lines_over_option(analysis, group, curve))
    return found


def _of(title: str, lines: Sequence[Line]) -> list[Panel]:
    return [Panel(title, tuple(lines))] if lines else []


def _over_size(plan: Plan, name: str) -> bool:
    return any(name in sizes for sizes in plan.sizes.values())


def _lines_over_option(analysis: Analysis, rows: Sequence[ArmRow], curve: Curve) -> list[Line]:
    groups: dict[tuple[object, ...], list[_Placed]] = {}
    for row in rows:
        settings = _settings(analysis.plan, row)
        point = _point(row, settings.get(curve.over), curve)
        if point is not None and row.arm.role == "system":
            others = sorted((k, v) for k, v in settings.items() if k != curve.over)
            groups.setdefault((row.arm.system, *others), []).append((row, point))
    lines = [placed for placed in groups.values() if len(placed) > 1]
    differing = _differing(analysis.plan, [placed[0][0] for placed in lines], curve)
    return [_line(analysis.plan, placed, differing) for placed in lines]


def _lines_over_size(analysis: Analysis, rows: Sequence[ArmRow], curve: Curve) -> list[Line]:
    """The first arm of each system, through the workloads."""
    first: dict[str, str] = {}
    groups: dict[str, list[_Placed]] = {}
    for row in rows:
        label = first.setdefault(row.arm.system, row.arm.label)
        size = analysis.plan.sizes.get(row.arm.workload, {}).get(curve.over)
        point = _point(row, size, curve)
        if point is not None and row.arm.role == "system" and row.arm.label == label:
            groups.setdefault(row.arm.system, []).append((row, point))
    return [_line(analysis.plan, placed, {}) for placed in groups.values() if len(placed) > 1]


_Placed = tuple[ArmRow, Point]


def _line(plan: Plan, placed: Sequence[_Placed], differing: Mapping[str, Sequence[str]]) -> Line:
    row = placed[0][0]
    settings = _settings(plan, row)
    told = [key for key in differing.get(row.arm.system, ()) if settings[key]]  # 0: not set
    words = [f"{key}={settings[key]}" for key in told]
    return Line(
        system=row.arm.system,
        words=" ".join([row.arm.system, *words]),
        points=tuple(sorted((p for _, p in placed), key=lambda point: point.at)),
    )


def _differing(plan: Plan, rows: Sequence[ArmRow], curve: Curve) -> dict[str, list[str]]:
    """By system, the settings beside the curve's in which its lines differ."""
    several: dict[str, list[Mapping[str, Option]]] = {}
    for row in rows:
        several.setdefault(row.arm.system, []).append(_settings(plan, row))
    return {
        system: [
            key
            for key in each[0]
            if key != curve.over and any(one.get(key) != each[0][key] for one in each)
        ]
        for system, each in several.items()
    }


def _settings(plan: Plan, row: ArmRow) -> Mapping[str, Option]:
    return {**plan.settings.get(row.arm.label, {}), **row.arm.options}


def _point(row: ArmRow, at: object, curve: Curve) -> Point | None:
    if isinstance(at, bool | str) or not isinstance(at, int | float) or at <= 0:
        return None
    low_value_high = _reading(row, curve)
    if low_value_high is None or not math.isfinite(low_value_high[1]):
        return None
    low, value, high = low_value_high
    return Point(at=float(at), value=value, low=low, high=high, row=row)


_Reading = tuple[float | None, float, float | None]


def _reading(row: ArmRow, curve: Curve) -> _Reading | None:
    """The curve's quantity of an arm between its bounds; None where it has none."""
    if curve.quantity == "durable_ms":
        spread = row.cell.durable_ms
        return None if spread is None else (spread.min, spread.mean, spread.max)
    versus = row.comparison
    if versus is None or versus.ratio is None:
        return None
    if curve.quantity == "slowdown":
        return _bounded(versus.ratio, versus.interval)
    entries = (entry for entry in versus.cost_ratios if entry.quantity == THROUGHPUT)
    found = next(entries, None)
    return None if found is None else _bounded(found.ratio, found.interval)


def _bounded(value: float, between: Interval | None) -> _Reading:
    return (None, value, None) if between is None else (between.low, value, between.high)
