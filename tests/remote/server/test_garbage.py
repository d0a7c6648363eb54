"""A server's process looks for garbage while nobody waits for it, and at all objects seldom."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from remora.remote.server.garbage import (
    AT_LEAST_S,
    IDLE_LOOKS,
    SELDOM_S,
    Garbage,
    collected_while_idle,
)


class Scripted:
    """One that is idle as told, looked at every second; when it collected is noted."""

    def __init__(self) -> None:
        self.idle, self.now_s = True, 100.0
        self.collected_s: list[float] = []
        self.garbage = Garbage(
            lambda: self.idle, lambda: self.collected_s.append(self.now_s - 100.0)
        )

    def passes(self, seconds: float, *, idle: bool) -> None:
        self.idle = idle
        for _ in range(round(seconds)):
            self.garbage.look(self.now_s)
            self.now_s += 1.0


def test_one_that_is_idle_collects_now_and_then() -> None:
    one = Scripted()
    one.passes(3 * SELDOM_S + 1, idle=True)
    assert one.collected_s == [SELDOM_S, 2 * SELDOM_S, 3 * SELDOM_S]


def test_one_that_is_busy_waits_until_it_is_not() -> None:
    one = Scripted()
    one.passes(5 * SELDOM_S, idle=False)
    assert one.collected_s == []
    one.passes(IDLE_LOOKS + 1, idle=True)
    assert one.collected_s == [5 * SELDOM_S + IDLE_LOOKS - 1]


def test_one_that_is_never_idle_collects_seldom() -> None:
    one = Scripted()
    one.passes(AT_LEAST_S + 1, idle=False)
    assert one.collected_s == [AT_LEAST_S]


@pytest.fixture
def generations() -> Iterator[list[int]]:
    """Of each look that Python takes, which objects it is at; 2 are all."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_python_never_looks_at_all_objects_by_itself(generations: list[int]) -> None:
    before = gc.get_threshold()
    with collected_while_idle(lambda: False):
        generations.clear()
        kept = [[number] for number in range(400_000)]
        assert 1 in generations
        assert 2 not in generations
        assert gc.get_freeze_count() > 0
    assert len(kept) == 400_000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
