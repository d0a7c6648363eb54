"""What cutting costs: training steps with every operator in pieces, over the same steps whole.

Rounds interleave: in each, every workload does a step whole and a step in pieces, in random order,
and every operator of both is timed on its own: finding its cut, its outputs' memory and all its
pieces, or its one call. A ratio is of one round; the median over rounds is given with an
order-statistic interval of at least 95 %. Times are the thread's own CPU time, of one thread, so
other programs do not count, though what they do to caches does.

Run it with ``python -m benchmarks slicing``.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.page import table
from benchmarks.tap import median_interval
from remora.share.slicing.call import is_view
from remora.share.slicing.profiler import Settings
from remora.share.slicing.slicing import Slicing

ROUNDS = 9
TURNAROUND_NS = 1_000_000
TARGET = 0.05
LEAST_SHARE = 0.01
"""Operators that take less of a step have no row of their own."""


class ThreadClock:
    """The CPU time of this thread."""

    def wall_ns(self) -> int:
        return time.thread_time_ns()

    def cpu_ns(self) -> int:
        return time.thread_time_ns()


@dataclass
class Times:
    """Of one step: nanoseconds by operator, and its longest piece."""

    total_ns: Counter[str] = field(default_factory=Counter)
    longest_ns: Counter[str] = field(default_factory=Counter)

    def add(self, operator: str, took_ns: int, longest_ns: int) -> None:
        self.total_ns[operator] += took_ns
        self.longest_ns[operator] = max(self.longest_ns[operator], longest_ns)


class _Timing(TorchDispatchMode):
    """Time every operator of a step; with a ``slicing``, in pieces."""

    def __init__(self, slicing: Slicing | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.times = Times()
        self._slicing = slicing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_view(func):
            return func(*args, **kwargs)
        began_ns, longest_ns = time.thread_time_ns(), 0
        pieces = None if self._slicing is None else self._slicing.pieces(func, args, kwargs)
        if pieces is None:
            result = func(*args, **kwargs)
        else:
            for place in range(len(pieces)):
                from_ns = time.thread_time_ns()
                pieces.run(place, place + 1)
                longest_ns = max(longest_ns, time.thread_time_ns() - from_ns)
            result = pieces.result
        took_ns = time.thread_time_ns() - began_ns
        self.times.add(str(func), took_ns, longest_ns or took_ns)
        return result


def section(rounds: int = ROUNDS) -> str:
    """A table of steps, and a table of the operators that they are made of."""
    steps, operators = [], []
    for name in STEPS:
        with _one_thread():
            whole, cut, slicing = _measure(name, rounds)
        steps.append(_step_row(name, whole, cut, slicing))
        operators += _operator_rows(name, whole, cut)
        gc.collect()
    how = (
        "Training steps of an MLP (1024-2048-2048-10, batch 256), BERT and GPT-2 (2 layers, 8,192 "
        "words, 4 x 128 tokens) and ResNet-50 (batch 4), on one thread: "
        f"every operator in pieces of at most {TURNAROUND_NS / 1e6:g} ms, bit-identical. "
        f"CPU time of the thread, medians over {rounds} interleaved rounds. *Cut over whole* is "
        "all that operators take, in pieces, over the same whole; *longest* is the longest piece. "
        f"Target: at most {1 + TARGET:g}."
    )
    columns = ("step", "whole, ms", "cut over whole", "95 % interval", "longest, ms", "of it long")
    more = (
        "step",
        "operator",
        "share of the step",
        "cut over whole",
        "95 % interval",
        "longest, ms",
    )
    return f"{how}\n\n{table(columns, steps)}\n\n{table(more, operators, left=2)}"


def _measure(name: str, rounds: int) -> tuple[list[Times], list[Times], Slicing]:
    torch.manual_seed(0)
    step = STEPS[name]()
    settings = Settings(turnaround_ns=TURNAROUND_NS)
    slicing = Slicing(settings, clock=ThreadClock(), report=lambda line: print(line, flush=True))
    for _ in range(2):  # the optimizer has its state from the first on
        _timed(step, slicing)
    order = random.Random(0)
    whole: list[Times] = []
    cut: list[Times] = []
    for _ in range(rounds):
        for used, kept in order.sample([(None, whole), (slicing, cut)], 2):
            kept.append(_timed(step, used))
    return whole, cut, slicing


def _timed(step: Callable[[], object], slicing: Slicing | None) -> Times:
    timing = _Timing(slicing)
    with timing:
        step()
    return timing.times


def _bert_step() -> Callable[[], object]:
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig(num_hidden_layers=2, vocab_size=8192))
    return _language_step(model, torch.optim.AdamW(model.parameters(), fused=True), 8192)


def _gpt2_step() -> Callable[[], object]:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=2, vocab_size=8192))
    return _language_step(model, torch.optim.AdamW(model.parameters(), foreach=True), 8192)


def _language_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, vocabulary: int
) -> Callable[[], object]:
    tokens = torch.randint(0, vocabulary, (4, 128))
    return _step(optimizer, lambda: model(input_ids=tokens, labels=tokens).loss)


def _resnet_step() -> Callable[[], object]:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    images, labels = torch.randn(4, 3, 224, 224), torch.randint(0, 1000, (4,))
    return _step(optimizer, lambda: model(pixel_values=images, labels=labels).loss)


def _mlp_step() -> Callable[[], object]:
    model = nn.Sequential(
        nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    x, y = torch.randn(256, 1024), torch.randint(0, 10, (256,))

    return _step(optimizer, lambda: nn.functional.cross_entropy(model(x), y))


def _step(
    optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]
) -> Callable[[], object]:
    def step() -> None:
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

    return step


STEPS: dict[str, Callable[[], Callable[[], object]]] = {
    "MLP, SGD": _mlp_step,
    "BERT, AdamW fused": _bert_step,
    "GPT-2, AdamW by lists": _gpt2_step,
    "ResNet-50, SGD": _resnet_step,
}
"""Of the published width, and of fewer layers and words where that only repeats: what an operator
costs depends on its shapes. Batches of 256, 4 x 128 tokens, 4 x 128 tokens, 4 images."""


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- the tables


def _step_row(name: str, whole: list[Times], cut: list[Times], slicing: Slicing) -> list[str]:
    totals = [sum(times.total_ns.values()) for times in whole]
    ratios = [sum(c.total_ns.values()) / w for c, w in zip(cut, totals, strict=True)]
    longest = median(max(times.longest_ns.values()) for times in cut)
    late = [
        sum(ns for op, ns in times.total_ns.items() if times.longest_ns[op] > TURNAROUND_NS * 1.1)
        / sum(times.total_ns.values())
        for times in cut
    ]
    return [
        name,
        f"{median(totals) / 1e6:.0f}",
        *_ratio(ratios),
        f"{longest / 1e6:.2f}",
        f"{median(late):.0%}",
    ]


def _operator_rows(name: str, whole: list[Times], cut: list[Times]) -> list[list[str]]:
    shares = {
        operator: median(t.total_ns[operator] / sum(t.total_ns.values()) for t in whole)
        for operator in whole[0].total_ns
    }
    rows = []
    for operator, share in sorted(shares.items(), key=lambda each: -each[1]):
        if share < LEAST_SHARE:
            continue
        pairs = zip(cut, whole, strict=True)
        ratios = [c.total_ns[operator] / max(1, w.total_ns[operator]) for c, w in pairs]
        longest = median(times.longest_ns[operator] for times in cut)
        rows.append(
            [name, f"`{operator}`", f"{share:.1%}", *_ratio(ratios), f"{longest / 1e6:.2f}"]
        )
    return rows


def _ratio(ratios: Sequence[float]) -> tuple[str, str]:
    low, high = median_interval(sorted(ratios))
    return f"{median(ratios):.3f}", f"{low:.3f} … {high:.3f}"


if __name__ == "__main__":
    print(section())
