"""What watching costs: the tap against the bare call, next to the other ways there are.

Every round runs all variants of one subject in random order; a variant's added cost is its mean
time in a round less the bare one's in the same round. The median over rounds is reported with an
order-statistic interval of at least 95 %, so what the machine does between rounds cancels. Times
are the thread's own CPU time: none of this waits, and other programs do not count.

Run it with ``python -m benchmarks.tap``.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import comb
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from benchmarks.page import table
from remora.tap.job import Job

STEP_TARGET_US = 2.0
CALL_TARGET_US = 1.5

Context = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Row:
    """One way of watching one subject; times in microseconds per call or step."""

    what: str
    bare_us: float
    watched_us: float
    added_us: float
    """Median over rounds of watched less bare; nan where it is not available."""
    low_us: float
    high_us: float
    """Bounds of the interval of ``added_us``."""
    note: str


@dataclass(frozen=True)
class Variant:
    what: str
    context: Context
    note: str = ""
    available: bool = True


@dataclass(frozen=True)
class Subject:
    """Something done many times, and the ways of watching it."""

    run: Callable[[int], None]
    """Do it so many times."""
    count: int
    """How many times in a round."""
    variants: list[Variant] = field(default_factory=list)


def measure(repeats: int = 41, seed: int = 0) -> list[Row]:
    """All rows, over ``repeats`` rounds of each subject."""
    order = random.Random(seed)
    rows: list[Row] = []
    for subject in (_python_calls(), _torch_calls(), _optimizer_steps(), _root_forwards()):
        rows += _rows(subject, repeats, order)
    return rows


def _rows(subject: Subject, repeats: int, order: random.Random) -> list[Row]:
    bare = Variant("bare", nullcontext)
    present = [bare, *(variant for variant in subject.variants if variant.available)]
    times: dict[str, list[float]] = {variant.what: [] for variant in present}
    for variant in present:
        _time_us(subject, variant)  # first use costs more, whichever way
    for _ in range(repeats):
        for variant in order.sample(present, len(present)):
            times[variant.what].append(_time_us(subject, variant))
    return [_row(variant, times.get(variant.what, []), times["bare"]) for variant in
            subject.variants]  # fmt: skip


def _time_us(subject: Subject, variant: Variant) -> float:
    with variant.context():
        subject.run(subject.count // 10)  # the variant's own first calls
        began = time.thread_time_ns()
        subject.run(subject.count)
        took = time.thread_time_ns() - began
    return took / subject.count / 1e3


def _row(variant: Variant, watched: list[float], bare: list[float]) -> Row:
    nan = float("nan")
    if not watched:
        return Row(variant.what, statistics.median(bare), nan, nan, nan, nan, variant.note)
    added = sorted(w - b for w, b in zip(watched, bare, strict=True))
    low, high = median_interval(added)
    return Row(
        what=variant.what,
        bare_us=statistics.median(bare),
        watched_us=statistics.median(watched),
        added_us=statistics.median(added),
        low_us=low,
        high_us=high,
        note=variant.note,
    )


def median_interval(ordered: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Order statistics that hold the median with probability ``level`` or more.

    From the binomial distribution of how many values lie below it (David and Nagaraja, Order
    Statistics, 3rd ed., section 7.1). All values where there are too few for ``level``.
    """
    n = len(ordered)
    missed, rank = 0.0, 0
    while rank < n // 2 and missed + 2 * comb(n, rank) / 2**n <= 1 - level:
        missed += 2 * comb(n, rank) / 2**n
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[n - 1 - rank]


# ---------------------------------------------------------------- subjects


def tiny(x: object) -> object:
    """The smallest function there is to watch."""
    return x


def _python_calls() -> Subject:
    module = sys.modules[__name__]

    def run(count: int) -> None:
        for _ in range(count):
            module.tiny(None)

    name = f"{__name__}.tiny"
    here = "a Python function"
    return Subject(run, 3000, [
        Variant(f"{here}: idle job", _job(lambda job: None), "nobody subscribed"),
        Variant(f"{here}: watched, before", _job(lambda j: j.calls.watch(name, before=_before))),
        Variant(f"{here}: watched, before and after",
                _job(lambda j: j.calls.watch(name, before=_before, after=_after)),
                f"target < {CALL_TARGET_US} µs"),
        Variant(f"{here}: sys.setprofile", _set(sys.setprofile, _on_profile), "every call"),
        Variant(f"{here}: sys.settrace", _set(sys.settrace, _on_trace), "every call and line"),
        Variant(f"{here}: sys.monitoring", _monitoring,
                "every call" if sys.version_info >= (3, 12) else "needs Python 3.12",
                sys.version_info >= (3, 12)),
    ])  # fmt: skip


def _torch_calls() -> Subject:
    x = torch.ones(1)

    def run(count: int) -> None:
        for _ in range(count):
            torch.add(x, x)

    here = "torch.add"
    return Subject(run, 2000, [
        Variant(f"{here}: idle job", _job(lambda job: None), "nobody subscribed"),
        Variant(f"{here}: watched, before and after",
                _job(lambda j: j.calls.watch("torch.add", before=_before, after=_after)),
                f"target < {CALL_TARGET_US} µs"),
        Variant(f"{here}: TorchFunctionMode", _FunctionMode, "every torch function"),
        Variant(f"{here}: TorchDispatchMode", _DispatchMode, "every ATen operator"),
        Variant(f"{here}: sys.settrace", _set(sys.settrace, _on_trace), "every call and line"),
    ])  # fmt: skip


class _Still(torch.optim.Optimizer):
    """An optimizer that does nothing, so that what is around its step stands out."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        return None


def _optimizer_steps() -> Subject:
    optimizer = _Still([nn.Parameter(torch.ones(1))], {})

    def run(count: int) -> None:
        for _ in range(count):
            optimizer.step()

    here = "an optimizer step"
    return Subject(run, 1000, [
        Variant(f"{here}: idle job", _job(lambda job: None), "nobody subscribed"),
        Variant(f"{here}: subscribed, after", _job(lambda j: j.steps.subscribe(_on_event)),
                f"target < {STEP_TARGET_US} µs"),
        Variant(f"{here}: subscribed, before and after",
                _job(lambda j: j.steps.subscribe(_on_event, _on_event)),
                f"target < {STEP_TARGET_US} µs"),
        Variant(f"{here}: a hook that does nothing",
                _hooked(lambda: optimizer.register_step_post_hook(lambda *_: None)),
                "torch's own path alone"),
        Variant(f"{here}: sys.settrace", _set(sys.settrace, _on_trace), "every call and line"),
    ])  # fmt: skip


def _root_forwards() -> Subject:
    root = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    x = torch.ones(1, 1)

    def run(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                root(x)

    here = "a root forward"
    return Subject(run, 1000, [
        Variant(f"{here}: idle job", _job(lambda job: None), "nobody subscribed"),
        Variant(f"{here}: subscribed, after", _job(lambda j: j.steps.subscribe_forward(_on_event)),
                "includes torch's own path for a module with hooks"),
        Variant(f"{here}: a hook that does nothing",
                _hooked(lambda: root.register_forward_hook(lambda *_: None)),
                "torch's own path alone"),
        Variant(f"{here}: sys.settrace", _set(sys.settrace, _on_trace), "every call and line"),
    ])  # fmt: skip


# ---------------------------------------------------------------- ways of watching


def _before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    return None


def _after(token: object, result: object) -> None:
    return None


def _on_event(event: object) -> None:
    return None


def _on_profile(frame: object, event: str, argument: object) -> None:
    return None


def _on_trace(frame: object, event: str, argument: object) -> Any:
    return _on_trace


def _job(subscribe: Callable[[Job], object]) -> Context:
    @contextmanager
    def riding() -> Iterator[None]:
        job = Job(strict=True)
        subscribe(job)
        try:
            yield
        finally:
            job.detach_all()

    return riding


def _hooked(hook: Callable[[], RemovableHandle]) -> Context:
    @contextmanager
    def hooked() -> Iterator[None]:
        handle = hook()
        try:
            yield
        finally:
            handle.remove()

    return hooked


def _set(setter: Callable[[Any], None], hook: Any) -> Context:
    @contextmanager
    def hooked() -> Iterator[None]:
        setter(hook)
        try:
            yield
        finally:
            setter(None)

    return hooked


@contextmanager
def _monitoring() -> Iterator[None]:
    monitoring = getattr(sys, "monitoring")  # noqa: B009  absent before Python 3.12
    tool, event = monitoring.PROFILER_ID, monitoring.events.PY_START
    monitoring.use_tool_id(tool, "benchmark")
    monitoring.register_callback(tool, event, lambda code, offset: None)
    monitoring.set_events(tool, event)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)


class _FunctionMode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


# ---------------------------------------------------------------- the table


_COLUMNS = ("what", "note", "bare, µs", "watched, µs", "added, µs", "95 % interval")


def section(repeats: int = 41) -> str:
    """The rows as a Markdown table, with how they were measured."""
    rows = [cells(row) for row in measure(repeats)]
    how = (
        f"Main-thread CPU time a call or step, medians over {repeats} interleaved rounds; "
        "*added* is the median of watched less bare within a round."
    )
    return f"{how}\n\n{table(_COLUMNS, rows, left=2)}"


def cells(row: Row) -> list[str]:
    """One row as text; dashes where the way of watching is not available."""
    if math.isnan(row.added_us):
        return [row.what, row.note, f"{row.bare_us:.2f}", "–", "–", "–"]
    interval = f"{row.low_us:+.2f} … {row.high_us:+.2f}"
    times = (f"{row.bare_us:.2f}", f"{row.watched_us:.2f}", f"{row.added_us:+.2f}")
    return [row.what, row.note, *times, interval]


def main() -> None:
    print(section())


if __name__ == "__main__":
    main()
