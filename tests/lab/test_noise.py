"""The noise probe, on a clock that is held still."""

from __future__ import annotations

from remora.core.clock import ManualClock
from remora.lab.noise import measure_noise


class Unsteady(ManualClock):
    """Every reading takes 1 ms; in the last window of four, 2 ms."""

    def wall_ns(self) -> int:
        self.advance(2_000_000 if self.now_ns > 1_500_000_000 else 1_000_000)
        return self.now_ns


def test_a_slow_window_is_seen() -> None:
    noise = measure_noise(2.0, Unsteady())
    assert noise.windows == 4
    assert 0.9 < noise.worst < 1.1
    assert 0.3 < noise.deviation < 0.5
    assert "identical work varied by" in noise.sentence
